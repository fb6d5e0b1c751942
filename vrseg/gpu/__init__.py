"""What the stages of an NVIDIA GPU share: the device, its memory, the order of work on it, and kernels."""
