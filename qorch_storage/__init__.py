"""Volumes, images and seeds for virtual machines, on qemu-img and LVM."""
