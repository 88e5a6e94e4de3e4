/* uint64_t probe_switch(void** save /a0/, void* load /a1/, switch_function switcher /a2/, uint64_t seed /a3/)
 *
 * Gives each callee-saved register a value made from `seed`, switches, and returns 0 when all are the same afterwards. */

        .text
        .globl  probe_switch
        .type   probe_switch, @function
probe_switch:
        addi    sp, sp, -208
        sd      a3, 0(sp)               /* the seed */
        sd      ra, 8(sp)
        sd      s0, 16(sp)
        sd      s1, 24(sp)
        sd      s2, 32(sp)
        sd      s3, 40(sp)
        sd      s4, 48(sp)
        sd      s5, 56(sp)
        sd      s6, 64(sp)
        sd      s7, 72(sp)
        sd      s8, 80(sp)
        sd      s9, 88(sp)
        sd      s10, 96(sp)
        sd      s11, 104(sp)
        fsd     fs0, 112(sp)
        fsd     fs1, 120(sp)
        fsd     fs2, 128(sp)
        fsd     fs3, 136(sp)
        fsd     fs4, 144(sp)
        fsd     fs5, 152(sp)
        fsd     fs6, 160(sp)
        fsd     fs7, 168(sp)
        fsd     fs8, 176(sp)
        fsd     fs9, 184(sp)
        fsd     fs10, 192(sp)
        fsd     fs11, 200(sp)
        addi    s0, a3, 1
        addi    s1, a3, 2
        addi    s2, a3, 3
        addi    s3, a3, 4
        addi    s4, a3, 5
        addi    s5, a3, 6
        addi    s6, a3, 7
        addi    s7, a3, 8
        addi    s8, a3, 9
        addi    s9, a3, 10
        addi    s10, a3, 11
        addi    s11, a3, 12
        addi    t0, a3, 13
        fmv.d.x fs0, t0
        addi    t0, a3, 14
        fmv.d.x fs1, t0
        addi    t0, a3, 15
        fmv.d.x fs2, t0
        addi    t0, a3, 16
        fmv.d.x fs3, t0
        addi    t0, a3, 17
        fmv.d.x fs4, t0
        addi    t0, a3, 18
        fmv.d.x fs5, t0
        addi    t0, a3, 19
        fmv.d.x fs6, t0
        addi    t0, a3, 20
        fmv.d.x fs7, t0
        addi    t0, a3, 21
        fmv.d.x fs8, t0
        addi    t0, a3, 22
        fmv.d.x fs9, t0
        addi    t0, a3, 23
        fmv.d.x fs10, t0
        addi    t0, a3, 24
        fmv.d.x fs11, t0
        jalr    a2
        ld      a3, 0(sp)
        li      a0, 0
        addi    t0, a3, 1
        xor     t0, t0, s0
        or      a0, a0, t0
        addi    t0, a3, 2
        xor     t0, t0, s1
        or      a0, a0, t0
        addi    t0, a3, 3
        xor     t0, t0, s2
        or      a0, a0, t0
        addi    t0, a3, 4
        xor     t0, t0, s3
        or      a0, a0, t0
        addi    t0, a3, 5
        xor     t0, t0, s4
        or      a0, a0, t0
        addi    t0, a3, 6
        xor     t0, t0, s5
        or      a0, a0, t0
        addi    t0, a3, 7
        xor     t0, t0, s6
        or      a0, a0, t0
        addi    t0, a3, 8
        xor     t0, t0, s7
        or      a0, a0, t0
        addi    t0, a3, 9
        xor     t0, t0, s8
        or      a0, a0, t0
        addi    t0, a3, 10
        xor     t0, t0, s9
        or      a0, a0, t0
        addi    t0, a3, 11
        xor     t0, t0, s10
        or      a0, a0, t0
        addi    t0, a3, 12
        xor     t0, t0, s11
        or      a0, a0, t0
        addi    t0, a3, 13
        fmv.x.d t1, fs0
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 14
        fmv.x.d t1, fs1
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 15
        fmv.x.d t1, fs2
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 16
        fmv.x.d t1, fs3
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 17
        fmv.x.d t1, fs4
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 18
        fmv.x.d t1, fs5
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 19
        fmv.x.d t1, fs6
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 20
        fmv.x.d t1, fs7
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 21
        fmv.x.d t1, fs8
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 22
        fmv.x.d t1, fs9
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 23
        fmv.x.d t1, fs10
        xor     t0, t0, t1
        or      a0, a0, t0
        addi    t0, a3, 24
        fmv.x.d t1, fs11
        xor     t0, t0, t1
        or      a0, a0, t0
        ld      s0, 16(sp)
        ld      s1, 24(sp)
        ld      s2, 32(sp)
        ld      s3, 40(sp)
        ld      s4, 48(sp)
        ld      s5, 56(sp)
        ld      s6, 64(sp)
        ld      s7, 72(sp)
        ld      s8, 80(sp)
        ld      s9, 88(sp)
        ld      s10, 96(sp)
        ld      s11, 104(sp)
        fld     fs0, 112(sp)
        fld     fs1, 120(sp)
        fld     fs2, 128(sp)
        fld     fs3, 136(sp)
        fld     fs4, 144(sp)
        fld     fs5, 152(sp)
        fld     fs6, 160(sp)
        fld     fs7, 168(sp)
        fld     fs8, 176(sp)
        fld     fs9, 184(sp)
        fld     fs10, 192(sp)
        fld     fs11, 200(sp)
        ld      ra, 8(sp)
        addi    sp, sp, 208
        ret
        .size   probe_switch, . - probe_switch

        .section .note.GNU-stack, "", @progbits
