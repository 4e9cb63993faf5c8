/* Every disk the BIOS can see. */
#pragma once
#include "base.h"

/* Counts up a four-digit number at 1 MiB of each disk, reads it back, prints a line:
 * GUEST-DISK 80 mb=2 rw=ok count=1 */
void check_disks(void);

/* Write records 1, 2, 3, … round and round over a region at 4 MiB of every disk, each to all disks
 * before the next one, or stop doing so. A record is a sector: its number, the number's complement,
 * and words made from it. Numbers go on from the largest one found.
 * GUEST-WRITER on n=17, GUEST-WRITER off n=4711, GUEST-WRITER failed n=4711 */
void toggle_writer(void);
void print_writer(const char *what);
bool is_writing(void);
void write_some(void); /* the next few records, if the writer is on */

/* Read the region of every disk. The newest record is n; each place must hold the newest record of
 * those up to n that belong there. bad counts those that do not.
 * GUEST-VERIFY 80 n=4711 bad=0 */
void verify_disks(void);
