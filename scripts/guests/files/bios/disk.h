/* Every disk the BIOS can see. */
#pragma once

/* Counts up a four-digit number at 1 MiB of each disk, reads it back, prints a line:
 * GUEST-DISK 80 mb=2 rw=ok count=1 */
void check_disks(void);
