"""How the compiled functions of this package are made, and how they see tensors."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_Array = NDArray[np.float32]
_fast = numba.njit(fastmath=True, nogil=True, cache=True, error_model="numpy")


def _arrays(*tensors: Tensor) -> list[_Array]:
    """Tensors as contiguous arrays; those that are contiguous share their memory."""
    return [t.detach().contiguous().numpy() for t in tensors]
