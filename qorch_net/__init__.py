"""Bridges, taps, NAT and DHCP for virtual machines, through netlink."""
