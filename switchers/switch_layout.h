/* What a suspended context looks like, for the assembler and for C++ alike: switch.hpp checks each offset.
 *
 * A suspended context is one pointer: the stack pointer at which this frame lies. */
#ifndef WEFT_SWITCHERS_SWITCH_LAYOUT_H
#define WEFT_SWITCHERS_SWITCH_LAYOUT_H

#if defined(__x86_64__)
#define WEFT_FRAME_MXCSR 0x00
#define WEFT_FRAME_X87_CONTROL 0x04
#define WEFT_FRAME_R15 0x08
#define WEFT_FRAME_R14 0x10
#define WEFT_FRAME_R13 0x18
#define WEFT_FRAME_R12 0x20
#define WEFT_FRAME_RBX 0x28
#define WEFT_FRAME_RBP 0x30
#define WEFT_FRAME_RETURN 0x38
#define WEFT_FRAME_BYTES 0x40
#elif defined(__aarch64__)
#define WEFT_FRAME_FPCR 0x00
#define WEFT_FRAME_D8 0x10
#define WEFT_FRAME_D10 0x20
#define WEFT_FRAME_D12 0x30
#define WEFT_FRAME_D14 0x40
#define WEFT_FRAME_X19 0x50
#define WEFT_FRAME_X21 0x60
#define WEFT_FRAME_X23 0x70
#define WEFT_FRAME_X25 0x80
#define WEFT_FRAME_X27 0x90
#define WEFT_FRAME_X29 0xa0
#define WEFT_FRAME_RETURN 0xa8
#define WEFT_FRAME_BYTES 0xb0
#elif defined(__riscv) && __riscv_xlen == 64 && defined(__riscv_float_abi_double)
#define WEFT_FRAME_FCSR 0x00
#define WEFT_FRAME_FS0 0x08
#define WEFT_FRAME_FS1 0x10
#define WEFT_FRAME_FS2 0x18
#define WEFT_FRAME_FS3 0x20
#define WEFT_FRAME_FS4 0x28
#define WEFT_FRAME_FS5 0x30
#define WEFT_FRAME_FS6 0x38
#define WEFT_FRAME_FS7 0x40
#define WEFT_FRAME_FS8 0x48
#define WEFT_FRAME_FS9 0x50
#define WEFT_FRAME_FS10 0x58
#define WEFT_FRAME_FS11 0x60
#define WEFT_FRAME_S1 0x68
#define WEFT_FRAME_S2 0x70
#define WEFT_FRAME_S3 0x78
#define WEFT_FRAME_S4 0x80
#define WEFT_FRAME_S5 0x88
#define WEFT_FRAME_S6 0x90
#define WEFT_FRAME_S7 0x98
#define WEFT_FRAME_S8 0xa0
#define WEFT_FRAME_S9 0xa8
#define WEFT_FRAME_S10 0xb0
#define WEFT_FRAME_S11 0xb8
#define WEFT_FRAME_S0 0xc0
#define WEFT_FRAME_RETURN 0xc8
#define WEFT_FRAME_BYTES 0xd0
#else
#error "weft has no switcher for this architecture yet"
#endif

#endif
