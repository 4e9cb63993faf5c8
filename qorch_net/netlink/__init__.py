"""The only place that imports pyroute2: interfaces (`links`) and the packet filter (`nft`).

pyroute2's core is asyncio with one loop and one socket per thread, wrapped by a sync API. So a
socket of it is opened, used and closed within one call, in one thread. Importing it takes 0.1 s:
who only plans imports `qorch_net.plan` and `qorch_net.host`.

Messages that belong together go to the kernel in one `send`. The kernel works them off before the
system call returns, so that SIGKILL comes before all or after all of them.
"""
