/* Context switches for 64-bit RISC-V Linux with double-precision floating point (RISC-V psABI, LP64D).
 *
 *   void weft_switch_same_thread     (void** save /a0/, void* load /a1/)
 *   void weft_switch_same_thread_fp  (void** save /a0/, void* load /a1/)
 *   void weft_switch_cross_thread    (void** save /a0/, void* load /a1/)
 *   void weft_switch_cross_thread_fp (void** save /a0/, void* load /a1/)
 *
 * Each saves the running context on its own stack, stores the stack pointer in *save, takes `load` for the stack
 * pointer, restores the context that lies there and returns into it.
 *
 * in      a0, a1 as above; load was stored by a switcher of the same kind (with or without _fp), or was made by
 *         weft::switchers::make_context
 * saved   s0..s11 (s0 is the frame pointer), the return address ra, fs0..fs11; _fp: fcsr too, which is the rounding mode
 *         and the flags of what has happened
 * left    every other register is the caller's to save, the vector registers among them; without _fp fcsr stays that of
 *         the thread, so code that changes the rounding mode must not park
 * never   tp: a fiber uses the thread-locals of the thread that it runs on. gp, which is the program's. The shadow stack
 *         of Zicfiss: this file carries no such property, so the linker marks the program as not using it.
 *
 * The frame, from the saved stack pointer up (switch_layout.h), 208 bytes; s0 and ra lie where every frame has them:
 *
 *   +0x00  fcsr (4), 4 unused                              written by _fp only
 *   +0x08  fs0      +0x10  fs1      +0x18  fs2      +0x20  fs3
 *   +0x28  fs4      +0x30  fs5      +0x38  fs6      +0x40  fs7
 *   +0x48  fs8      +0x50  fs9      +0x58  fs10     +0x60  fs11
 *   +0x68  s1       +0x70  s2       +0x78  s3       +0x80  s4
 *   +0x88  s5       +0x90  s6       +0x98  s7       +0xa0  s8
 *   +0xa8  s9       +0xb0  s10      +0xb8  s11      +0xc0  s0       +0xc8  ra, the return address
 *
 * The cross-thread pair shares the code of the same-thread pair although this machine reorders memory: the release that
 * makes a saved context visible comes after the switch away, and the acquire before the switch to it (fiber_word does
 * both), so a barrier in here would be one too many.
 *
 * The jump through t2 instead of `ret` is on purpose: a jump through ra tells the return predictor to take the address
 * that the other context was called from, which is wrong each time. t2 is the register through which a jump may go to
 * a place without a landing pad.
 */

#include "switch_layout.h"

        .text

.macro weft_save
        .cfi_startproc
        addi    sp, sp, -WEFT_FRAME_BYTES
        .cfi_adjust_cfa_offset WEFT_FRAME_BYTES
        fsd     fs0, WEFT_FRAME_FS0(sp)
        fsd     fs1, WEFT_FRAME_FS1(sp)
        fsd     fs2, WEFT_FRAME_FS2(sp)
        fsd     fs3, WEFT_FRAME_FS3(sp)
        fsd     fs4, WEFT_FRAME_FS4(sp)
        fsd     fs5, WEFT_FRAME_FS5(sp)
        fsd     fs6, WEFT_FRAME_FS6(sp)
        fsd     fs7, WEFT_FRAME_FS7(sp)
        fsd     fs8, WEFT_FRAME_FS8(sp)
        fsd     fs9, WEFT_FRAME_FS9(sp)
        fsd     fs10, WEFT_FRAME_FS10(sp)
        fsd     fs11, WEFT_FRAME_FS11(sp)
        sd      s1, WEFT_FRAME_S1(sp)
        sd      s2, WEFT_FRAME_S2(sp)
        sd      s3, WEFT_FRAME_S3(sp)
        sd      s4, WEFT_FRAME_S4(sp)
        sd      s5, WEFT_FRAME_S5(sp)
        sd      s6, WEFT_FRAME_S6(sp)
        sd      s7, WEFT_FRAME_S7(sp)
        sd      s8, WEFT_FRAME_S8(sp)
        sd      s9, WEFT_FRAME_S9(sp)
        sd      s10, WEFT_FRAME_S10(sp)
        sd      s11, WEFT_FRAME_S11(sp)
        sd      s0, WEFT_FRAME_S0(sp)
        sd      ra, WEFT_FRAME_RETURN(sp)
        .cfi_rel_offset fs0, WEFT_FRAME_FS0
        .cfi_rel_offset fs1, WEFT_FRAME_FS1
        .cfi_rel_offset fs2, WEFT_FRAME_FS2
        .cfi_rel_offset fs3, WEFT_FRAME_FS3
        .cfi_rel_offset fs4, WEFT_FRAME_FS4
        .cfi_rel_offset fs5, WEFT_FRAME_FS5
        .cfi_rel_offset fs6, WEFT_FRAME_FS6
        .cfi_rel_offset fs7, WEFT_FRAME_FS7
        .cfi_rel_offset fs8, WEFT_FRAME_FS8
        .cfi_rel_offset fs9, WEFT_FRAME_FS9
        .cfi_rel_offset fs10, WEFT_FRAME_FS10
        .cfi_rel_offset fs11, WEFT_FRAME_FS11
        .cfi_rel_offset s1, WEFT_FRAME_S1
        .cfi_rel_offset s2, WEFT_FRAME_S2
        .cfi_rel_offset s3, WEFT_FRAME_S3
        .cfi_rel_offset s4, WEFT_FRAME_S4
        .cfi_rel_offset s5, WEFT_FRAME_S5
        .cfi_rel_offset s6, WEFT_FRAME_S6
        .cfi_rel_offset s7, WEFT_FRAME_S7
        .cfi_rel_offset s8, WEFT_FRAME_S8
        .cfi_rel_offset s9, WEFT_FRAME_S9
        .cfi_rel_offset s10, WEFT_FRAME_S10
        .cfi_rel_offset s11, WEFT_FRAME_S11
        .cfi_rel_offset s0, WEFT_FRAME_S0
        .cfi_rel_offset ra, WEFT_FRAME_RETURN
.endm

/* A signal may overwrite what lies below the stack pointer: the registers are restored for the unwinder too before the
 * frame is given up. */
.macro weft_load
        fld     fs0, WEFT_FRAME_FS0(sp)
        fld     fs1, WEFT_FRAME_FS1(sp)
        fld     fs2, WEFT_FRAME_FS2(sp)
        fld     fs3, WEFT_FRAME_FS3(sp)
        fld     fs4, WEFT_FRAME_FS4(sp)
        fld     fs5, WEFT_FRAME_FS5(sp)
        fld     fs6, WEFT_FRAME_FS6(sp)
        fld     fs7, WEFT_FRAME_FS7(sp)
        fld     fs8, WEFT_FRAME_FS8(sp)
        fld     fs9, WEFT_FRAME_FS9(sp)
        fld     fs10, WEFT_FRAME_FS10(sp)
        fld     fs11, WEFT_FRAME_FS11(sp)
        ld      s1, WEFT_FRAME_S1(sp)
        ld      s2, WEFT_FRAME_S2(sp)
        ld      s3, WEFT_FRAME_S3(sp)
        ld      s4, WEFT_FRAME_S4(sp)
        ld      s5, WEFT_FRAME_S5(sp)
        ld      s6, WEFT_FRAME_S6(sp)
        ld      s7, WEFT_FRAME_S7(sp)
        ld      s8, WEFT_FRAME_S8(sp)
        ld      s9, WEFT_FRAME_S9(sp)
        ld      s10, WEFT_FRAME_S10(sp)
        ld      s11, WEFT_FRAME_S11(sp)
        ld      s0, WEFT_FRAME_S0(sp)
        ld      t2, WEFT_FRAME_RETURN(sp)
        .irp    register, fs0, fs1, fs2, fs3, fs4, fs5, fs6, fs7, fs8, fs9, fs10, fs11, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s0
        .cfi_restore \register
        .endr
        .cfi_register ra, t2
        addi    sp, sp, WEFT_FRAME_BYTES
        .cfi_adjust_cfa_offset -WEFT_FRAME_BYTES
        jr      t2
        .cfi_endproc
.endm

        .globl  weft_switch_same_thread, weft_switch_cross_thread
        .type   weft_switch_same_thread, @function
        .type   weft_switch_cross_thread, @function
        .p2align 6
weft_switch_same_thread:
weft_switch_cross_thread:
        weft_save
        sd      sp, (a0)
        mv      sp, a1
        weft_load
        .size   weft_switch_same_thread, . - weft_switch_same_thread
        .size   weft_switch_cross_thread, . - weft_switch_cross_thread

        .globl  weft_switch_same_thread_fp, weft_switch_cross_thread_fp
        .type   weft_switch_same_thread_fp, @function
        .type   weft_switch_cross_thread_fp, @function
        .p2align 6
weft_switch_same_thread_fp:
weft_switch_cross_thread_fp:
        weft_save
        frcsr   t0
        sw      t0, WEFT_FRAME_FCSR(sp)
        sd      sp, (a0)
        mv      sp, a1
        lw      t0, WEFT_FRAME_FCSR(sp)
        fscsr   t0
        weft_load
        .size   weft_switch_same_thread_fp, . - weft_switch_same_thread_fp
        .size   weft_switch_cross_thread_fp, . - weft_switch_cross_thread_fp

/* Where a new context starts: make_context left the entry function in s1 and its argument in s2. The function never
 * returns. ra is undefined here and s0 is zero, so every backtrace ends at this frame. During the first switch that is
 * so too: for a return address an unwinder asks about the byte before it, which is the `nop`'s. */
        .globl  weft_context_entry
        .type   weft_context_entry, @function
        .p2align 4
        .cfi_startproc
        .cfi_undefined ra
        nop
weft_context_entry:
        mv      a0, s2
        jalr    s1
        unimp
        .cfi_endproc
        .size   weft_context_entry, . - weft_context_entry

        .section .note.GNU-stack, "", @progbits
