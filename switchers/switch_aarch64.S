/* Context switches for AArch64 Linux (AAPCS64, section 6.1).
 *
 *   void weft_switch_same_thread     (void** save /x0/, void* load /x1/)
 *   void weft_switch_same_thread_fp  (void** save /x0/, void* load /x1/)
 *   void weft_switch_cross_thread    (void** save /x0/, void* load /x1/)
 *   void weft_switch_cross_thread_fp (void** save /x0/, void* load /x1/)
 *
 * Each saves the running context on its own stack, stores the stack pointer in *save, takes `load` for the stack
 * pointer, restores the context that lies there and returns into it.
 *
 * in      x0, x1 as above; load was stored by a switcher of the same kind (with or without _fp), or was made by
 *         weft::switchers::make_context
 * saved   x19..x28, the frame pointer x29, the return address x30, d8..d15; _fp: FPCR too
 * left    every other register is the caller's to save: x0..x17, of v8..v15 the upper halves, of the other vector
 *         registers all, the predicates of SVE, the condition flags. FPSR, which only notes what has happened, and
 *         without _fp FPCR too stay those of the thread, so code that changes FPCR must not park.
 * never   tpidr_el0: a fiber uses the thread-locals of the thread that it runs on. x18, which is the platform's.
 *
 * The frame, from the saved stack pointer up (switch_layout.h), 176 bytes:
 *
 *   +0x00  FPCR (8), 8 unused                              written by _fp only
 *   +0x10  d8       +0x18  d9       +0x20  d10      +0x28  d11
 *   +0x30  d12      +0x38  d13      +0x40  d14      +0x48  d15
 *   +0x50  x19      +0x58  x20      +0x60  x21      +0x68  x22
 *   +0x70  x23      +0x78  x24      +0x80  x25      +0x88  x26
 *   +0x90  x27      +0x98  x28      +0xa0  x29      +0xa8  x30, the return address
 *
 * The cross-thread pair shares the code of the same-thread pair although this machine reorders memory: the release that
 * makes a saved context visible comes after the switch away, and the acquire before the switch to it (fiber_word does
 * both), so a barrier in here would be one too many.
 *
 * `ret` is predicted by where the other context was called from, and so wrongly. `br` would not be, but where landing
 * pads are enforced it may only go to one, and what follows a call is none.
 */

#include "switch_layout.h"

        .text

.macro weft_save
        .cfi_startproc
        bti     c
        sub     sp, sp, #WEFT_FRAME_BYTES
        .cfi_adjust_cfa_offset WEFT_FRAME_BYTES
        stp     d8, d9, [sp, #WEFT_FRAME_D8]
        stp     d10, d11, [sp, #WEFT_FRAME_D10]
        stp     d12, d13, [sp, #WEFT_FRAME_D12]
        stp     d14, d15, [sp, #WEFT_FRAME_D14]
        stp     x19, x20, [sp, #WEFT_FRAME_X19]
        stp     x21, x22, [sp, #WEFT_FRAME_X21]
        stp     x23, x24, [sp, #WEFT_FRAME_X23]
        stp     x25, x26, [sp, #WEFT_FRAME_X25]
        stp     x27, x28, [sp, #WEFT_FRAME_X27]
        stp     x29, x30, [sp, #WEFT_FRAME_X29]
        .cfi_rel_offset d8, WEFT_FRAME_D8
        .cfi_rel_offset d9, WEFT_FRAME_D8 + 8
        .cfi_rel_offset d10, WEFT_FRAME_D10
        .cfi_rel_offset d11, WEFT_FRAME_D10 + 8
        .cfi_rel_offset d12, WEFT_FRAME_D12
        .cfi_rel_offset d13, WEFT_FRAME_D12 + 8
        .cfi_rel_offset d14, WEFT_FRAME_D14
        .cfi_rel_offset d15, WEFT_FRAME_D14 + 8
        .cfi_rel_offset x19, WEFT_FRAME_X19
        .cfi_rel_offset x20, WEFT_FRAME_X19 + 8
        .cfi_rel_offset x21, WEFT_FRAME_X21
        .cfi_rel_offset x22, WEFT_FRAME_X21 + 8
        .cfi_rel_offset x23, WEFT_FRAME_X23
        .cfi_rel_offset x24, WEFT_FRAME_X23 + 8
        .cfi_rel_offset x25, WEFT_FRAME_X25
        .cfi_rel_offset x26, WEFT_FRAME_X25 + 8
        .cfi_rel_offset x27, WEFT_FRAME_X27
        .cfi_rel_offset x28, WEFT_FRAME_X27 + 8
        .cfi_rel_offset x29, WEFT_FRAME_X29
        .cfi_rel_offset x30, WEFT_FRAME_RETURN
.endm

.macro weft_change_stack
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
.endm

/* A signal may overwrite what lies below the stack pointer: the registers are restored for the unwinder too before the
 * frame is given up. */
.macro weft_load
        ldp     d8, d9, [sp, #WEFT_FRAME_D8]
        ldp     d10, d11, [sp, #WEFT_FRAME_D10]
        ldp     d12, d13, [sp, #WEFT_FRAME_D12]
        ldp     d14, d15, [sp, #WEFT_FRAME_D14]
        ldp     x19, x20, [sp, #WEFT_FRAME_X19]
        ldp     x21, x22, [sp, #WEFT_FRAME_X21]
        ldp     x23, x24, [sp, #WEFT_FRAME_X23]
        ldp     x25, x26, [sp, #WEFT_FRAME_X25]
        ldp     x27, x28, [sp, #WEFT_FRAME_X27]
        ldp     x29, x30, [sp, #WEFT_FRAME_X29]
        .irp    register, d8, d9, d10, d11, d12, d13, d14, d15, x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, x29, x30
        .cfi_restore \register
        .endr
        add     sp, sp, #WEFT_FRAME_BYTES
        .cfi_adjust_cfa_offset -WEFT_FRAME_BYTES
        ret
        .cfi_endproc
.endm

        .globl  weft_switch_same_thread, weft_switch_cross_thread
        .type   weft_switch_same_thread, %function
        .type   weft_switch_cross_thread, %function
        .p2align 6
weft_switch_same_thread:
weft_switch_cross_thread:
        weft_save
        weft_change_stack
        weft_load
        .size   weft_switch_same_thread, . - weft_switch_same_thread
        .size   weft_switch_cross_thread, . - weft_switch_cross_thread

        .globl  weft_switch_same_thread_fp, weft_switch_cross_thread_fp
        .type   weft_switch_same_thread_fp, %function
        .type   weft_switch_cross_thread_fp, %function
        .p2align 6
weft_switch_same_thread_fp:
weft_switch_cross_thread_fp:
        weft_save
        mrs     x9, fpcr
        str     x9, [sp, #WEFT_FRAME_FPCR]
        weft_change_stack
        ldr     x9, [sp, #WEFT_FRAME_FPCR]
        msr     fpcr, x9
        weft_load
        .size   weft_switch_same_thread_fp, . - weft_switch_same_thread_fp
        .size   weft_switch_cross_thread_fp, . - weft_switch_cross_thread_fp

/* Where a new context starts: make_context left the entry function in x19 and its argument in x20. The function never
 * returns. x30 is undefined here and x29 is zero, so every backtrace ends at this frame. During the first switch that is
 * so too: for a return address an unwinder asks about the byte before it, which is the `nop`'s. A `ret` leads here, which
 * needs no landing pad. */
        .globl  weft_context_entry
        .type   weft_context_entry, %function
        .p2align 4
        .cfi_startproc
        .cfi_undefined x30
        nop
weft_context_entry:
        mov     x0, x20
        blr     x19
        udf     #0
        .cfi_endproc
        .size   weft_context_entry, . - weft_context_entry

/* The linker enforces landing pads only when every object says that it has them: this one does. */
        .section .note.gnu.property, "a"
        .p2align 3
        .word   4, 16, 5        /* bytes of the name, bytes of the description, NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .word   0xc0000000, 4   /* GNU_PROPERTY_AARCH64_FEATURE_1_AND, bytes of its value */
        .word   1, 0            /* BTI, padding */

        .section .note.GNU-stack, "", %progbits
