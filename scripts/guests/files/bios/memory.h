/* What lies where in the one 64 KiB segment (guest.lds has the first two). */
#pragma once

/* 0x00000  interrupt vectors and BIOS data area */
#define RX_BUFFERS 0x1000 /* 8 received frames of 2 KiB */
#define TX_BUFFER 0x5000  /* a frame of our own, 2 KiB */
#define DISK_SECTOR 0x5800 /* a sector on its way to or from a disk */
/* 0x06000  stack, grows down from 0x7000
 * 0x07c00  boot sector, code, data, bss: at most up to 0xa000 */
#define VIRTQUEUES 0xa000 /* legacy virtio-net dictates 256 entries: 12 KiB for each of two */
