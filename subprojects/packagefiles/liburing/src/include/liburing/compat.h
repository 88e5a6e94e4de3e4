/* What liburing.h expects from the kernel's headers. Those of Linux 5.6 and later have all but the marked parts. */
#ifndef LIBURING_COMPAT_H
#define LIBURING_COMPAT_H

#include <linux/ioctl.h>
#include <linux/openat2.h>
#include <linux/time_types.h>
#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1

/* Linux 5.16 defines it; only pointers to it occur here. */
struct futex_waitv;

/* Linux 6.12 defines it, in a header of its own. */
#if __has_include(<linux/blkdev.h>)
#include <linux/blkdev.h>
#endif
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

#endif
