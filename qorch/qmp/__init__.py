"""QMP, the QEMU Machine Protocol, on trio."""
