r"""How features are kept: float32, bfloat16, or int8 with a scale per row (method.md, section 5).

``int8`` has an absolute error of at most s / 2 per coordinate:

.. math::
    q = \mathrm{round}(\phi / s), \qquad s = \max \vert \phi \vert / 127, \qquad
    \phi \approx q s                                                                     \tag{5.16}

``bfloat16`` keeps 8 significant bits, a relative error of at most 2^-8.
"""

from typing import Literal, NamedTuple

import ml_dtypes
import numpy as np

Dtype = Literal["float32", "bfloat16", "int8"]
SCALE = "scale"
"""The array that holds the rows' scales beside features kept as int8."""


class StoredRows(NamedTuple):
    """Rows as they are kept, with a scale [rows] where they are int8."""

    values: np.ndarray
    scale: np.ndarray | None


def encode(rows: np.ndarray, dtype: Dtype) -> StoredRows:
    """Rows [row, ...] of finite float32."""
    if dtype == "float32":
        return StoredRows(rows.astype(np.float32, copy=False), None)
    if dtype == "bfloat16":
        return StoredRows(rows.astype(ml_dtypes.bfloat16), None)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scale = (largest / 127.0).astype(np.float32)
    # A row too small for a scale in float32 is kept as zeros.
    step = np.where(scale > 0, scale, np.inf)[:, None]
    return StoredRows(np.clip(np.rint(rows / step), -127, 127).astype(np.int8), scale)


def decode(values: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Rows in float32; float32 ones are not copied."""
    rows = values.astype(np.float32, copy=False)
    return rows if scale is None else rows * scale[:, None]
