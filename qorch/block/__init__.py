"""QEMU's block layer: the graph, jobs and commands as values, and jobs that are run."""
