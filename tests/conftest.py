"""One thread: the tensors of the tests are too small to share out."""
import torch

torch.set_num_threads(1)
