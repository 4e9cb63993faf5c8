"""Virtual machines on Linux hosts, straight on QEMU."""
