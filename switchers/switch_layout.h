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
#else
#error "weft has no switcher for this architecture yet"
#endif

#endif
