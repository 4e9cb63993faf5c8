/* The first virtio network card: legacy, transitional or modern, on any bus. */
#pragma once
#include "base.h"

bool nic_open(void); /* false: there is none */
const u8 *nic_mac(void);

u8 *nic_buffer(void); /* room for one frame to send, 1514 bytes */
/* Sends a frame that lies in nic_buffer() or came from nic_receive(); returns when it is out. */
void nic_send(u8 *frame, u32 length);
/* The next received frame, or 0. It is ours, to read and to change, until nic_release(). */
u8 *nic_receive(u32 *length);
void nic_release(void);
