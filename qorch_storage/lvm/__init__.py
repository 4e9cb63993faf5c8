"""LVM through its own programs: their JSON read, their prose never."""
