/* uint64_t probe_switch(void** save /x0/, void* load /x1/, switch_function switcher /x2/, uint64_t seed /x3/)
 *
 * Gives each callee-saved register a value made from `seed`, switches, and returns 0 when all are the same afterwards. */

        .text
        .globl  probe_switch
        .type   probe_switch, %function
probe_switch:
        stp     x29, x30, [sp, #-176]!
        mov     x29, sp
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        str     x3, [sp, #160]              /* the seed */
        add     x19, x3, #1
        add     x20, x3, #2
        add     x21, x3, #3
        add     x22, x3, #4
        add     x23, x3, #5
        add     x24, x3, #6
        add     x25, x3, #7
        add     x26, x3, #8
        add     x27, x3, #9
        add     x28, x3, #10
        add     x9, x3, #11
        fmov    d8, x9
        add     x9, x3, #12
        fmov    d9, x9
        add     x9, x3, #13
        fmov    d10, x9
        add     x9, x3, #14
        fmov    d11, x9
        add     x9, x3, #15
        fmov    d12, x9
        add     x9, x3, #16
        fmov    d13, x9
        add     x9, x3, #17
        fmov    d14, x9
        add     x9, x3, #18
        fmov    d15, x9
        blr     x2
        ldr     x3, [sp, #160]
        mov     x9, sp
        sub     x0, x29, x9             /* x29 is what sp is, as before */
        add     x9, x3, #1
        eor     x9, x9, x19
        orr     x0, x0, x9
        add     x9, x3, #2
        eor     x9, x9, x20
        orr     x0, x0, x9
        add     x9, x3, #3
        eor     x9, x9, x21
        orr     x0, x0, x9
        add     x9, x3, #4
        eor     x9, x9, x22
        orr     x0, x0, x9
        add     x9, x3, #5
        eor     x9, x9, x23
        orr     x0, x0, x9
        add     x9, x3, #6
        eor     x9, x9, x24
        orr     x0, x0, x9
        add     x9, x3, #7
        eor     x9, x9, x25
        orr     x0, x0, x9
        add     x9, x3, #8
        eor     x9, x9, x26
        orr     x0, x0, x9
        add     x9, x3, #9
        eor     x9, x9, x27
        orr     x0, x0, x9
        add     x9, x3, #10
        eor     x9, x9, x28
        orr     x0, x0, x9
        add     x9, x3, #11
        fmov    x10, d8
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #12
        fmov    x10, d9
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #13
        fmov    x10, d10
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #14
        fmov    x10, d11
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #15
        fmov    x10, d12
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #16
        fmov    x10, d13
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #17
        fmov    x10, d14
        eor     x9, x9, x10
        orr     x0, x0, x9
        add     x9, x3, #18
        fmov    x10, d15
        eor     x9, x9, x10
        orr     x0, x0, x9
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        ldp     x29, x30, [sp], #176
        ret
        .size   probe_switch, . - probe_switch

        .section .note.GNU-stack, "", %progbits
