/* uint64_t probe_switch(void** save /rdi/, void* load /rsi/, switch_function switcher /rdx/, uint64_t seed /rcx/)
 *
 * Gives each callee-saved register a value made from `seed`, switches, and returns 0 when all are the same afterwards. */

        .text
        .globl  probe_switch
        .type   probe_switch, @function
probe_switch:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rcx                    /* the seed; the stack is aligned to 16 again */
        leaq    1(%rcx), %rbp
        leaq    2(%rcx), %rbx
        leaq    3(%rcx), %r12
        leaq    4(%rcx), %r13
        leaq    5(%rcx), %r14
        leaq    6(%rcx), %r15
        call    *%rdx
        popq    %rcx
        xorl    %eax, %eax
        leaq    1(%rcx), %rdx
        xorq    %rbp, %rdx
        orq     %rdx, %rax
        leaq    2(%rcx), %rdx
        xorq    %rbx, %rdx
        orq     %rdx, %rax
        leaq    3(%rcx), %rdx
        xorq    %r12, %rdx
        orq     %rdx, %rax
        leaq    4(%rcx), %rdx
        xorq    %r13, %rdx
        orq     %rdx, %rax
        leaq    5(%rcx), %rdx
        xorq    %r14, %rdx
        orq     %rdx, %rax
        leaq    6(%rcx), %rdx
        xorq    %r15, %rdx
        orq     %rdx, %rax
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   probe_switch, . - probe_switch

        .section .note.GNU-stack, "", @progbits
