/* Context switches for the x86-64 System V ABI (psABI 1.0, section 3.2).
 *
 *   void weft_switch_same_thread     (void** save /rdi/, void* load /rsi/)
 *   void weft_switch_same_thread_fp  (void** save /rdi/, void* load /rsi/)
 *   void weft_switch_cross_thread    (void** save /rdi/, void* load /rsi/)
 *   void weft_switch_cross_thread_fp (void** save /rdi/, void* load /rsi/)
 *
 * Each saves the running context on its own stack, stores the stack pointer in *save, takes `load` for the stack
 * pointer, restores the context that lies there and returns into it.
 *
 * in      rdi, rsi as above; load was stored by a switcher of the same kind (with or without _fp), or was made by
 *         weft::switchers::make_context
 * saved   rbx, rbp, r12..r15, the return address; _fp: MXCSR and the x87 control word too
 * left    every other register is the caller's to save (psABI figure 3.4); the direction flag is clear at any call;
 *         without _fp the two control words stay those of the thread, so code that changes them must not park
 * never   fs and gs: a fiber uses the thread-locals of the thread that it runs on. The shadow stack of CET: this file
 *         carries no CET property, so the linker marks the program as not using it.
 *
 * The frame, from the saved stack pointer up (switch_layout.h), one cache line:
 *
 *   +0x00  MXCSR (4), x87 control word (2), 2 unused       written by _fp only
 *   +0x08  r15      +0x10  r14      +0x18  r13      +0x20  r12
 *   +0x28  rbx      +0x30  rbp      +0x38  return address
 *
 * The cross-thread pair shares the code of the same-thread pair: the release that makes a saved context visible comes
 * after the switch away, and the acquire before the switch to it (fiber_word does both), so neither is made in here.
 *
 * The jump through rdx instead of `ret` is on purpose: the return predictor holds the address that the other context
 * was called from, so a `ret` here would be mispredicted each time.
 */

#include "switch_layout.h"

        .text

.macro weft_save
        .cfi_startproc
        endbr64
        subq    $WEFT_FRAME_RETURN, %rsp        /* the return address is on the stack already */
        .cfi_adjust_cfa_offset WEFT_FRAME_RETURN
        movq    %r15, WEFT_FRAME_R15(%rsp)
        movq    %r14, WEFT_FRAME_R14(%rsp)
        movq    %r13, WEFT_FRAME_R13(%rsp)
        movq    %r12, WEFT_FRAME_R12(%rsp)
        movq    %rbx, WEFT_FRAME_RBX(%rsp)
        movq    %rbp, WEFT_FRAME_RBP(%rsp)
        .cfi_rel_offset %r15, WEFT_FRAME_R15
        .cfi_rel_offset %r14, WEFT_FRAME_R14
        .cfi_rel_offset %r13, WEFT_FRAME_R13
        .cfi_rel_offset %r12, WEFT_FRAME_R12
        .cfi_rel_offset %rbx, WEFT_FRAME_RBX
        .cfi_rel_offset %rbp, WEFT_FRAME_RBP
.endm

.macro weft_load
        movq    WEFT_FRAME_R15(%rsp), %r15
        movq    WEFT_FRAME_R14(%rsp), %r14
        movq    WEFT_FRAME_R13(%rsp), %r13
        movq    WEFT_FRAME_R12(%rsp), %r12
        movq    WEFT_FRAME_RBX(%rsp), %rbx
        movq    WEFT_FRAME_RBP(%rsp), %rbp
        movq    WEFT_FRAME_RETURN(%rsp), %rdx
        addq    $WEFT_FRAME_BYTES, %rsp
        .cfi_adjust_cfa_offset -WEFT_FRAME_BYTES
        .cfi_register %rip, %rdx
        jmp     *%rdx
        .cfi_endproc
.endm

        .globl  weft_switch_same_thread, weft_switch_cross_thread
        .type   weft_switch_same_thread, @function
        .type   weft_switch_cross_thread, @function
        .p2align 6
weft_switch_same_thread:
weft_switch_cross_thread:
        weft_save
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
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
        stmxcsr WEFT_FRAME_MXCSR(%rsp)
        fnstcw  WEFT_FRAME_X87_CONTROL(%rsp)
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        ldmxcsr WEFT_FRAME_MXCSR(%rsp)
        fldcw   WEFT_FRAME_X87_CONTROL(%rsp)
        weft_load
        .size   weft_switch_same_thread_fp, . - weft_switch_same_thread_fp
        .size   weft_switch_cross_thread_fp, . - weft_switch_cross_thread_fp

/* Where a new context starts: make_context left the entry function in r12 and its argument in r13. The function never
 * returns. rip is undefined here and rbp is zero, so every backtrace ends at this frame. During the first switch that is
 * so too: for a return address an unwinder asks about the byte before it, which is the `nop`. */
        .globl  weft_context_entry
        .type   weft_context_entry, @function
        .p2align 4
        .cfi_startproc
        .cfi_undefined %rip
        nop
weft_context_entry:
        endbr64
        movq    %r13, %rdi
        call    *%r12
        ud2
        .cfi_endproc
        .size   weft_context_entry, . - weft_context_entry

        .section .note.GNU-stack, "", @progbits
