"""Training: solver.prototxt as Caffe runs it; its rules also as PyTorch's optimizers and schedulers."""
