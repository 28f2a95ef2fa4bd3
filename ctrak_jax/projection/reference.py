r"""The projection matrix written out, in NumPy: what every implementation must reproduce.

Entry (i, j) of the d x k matrix R comes from a counter hash of (seed, i, j), with f the finaliser
of MurmurHash3 (Appleby 2011), a bijection of 32-bit words that mixes every bit into every other:

.. math::
    w(s, i, c) = f\bigl(f(i \oplus f(s \oplus a)) \oplus f(c \oplus f(s \oplus b))\bigr)     \tag{8}

* ``rademacher``: bit j mod 32 of w(seed, i, j div 32) is the sign, +1 where it is 0 (one word
  serves 32 columns);
* ``gaussian``: :math:`\sqrt2\,\mathrm{erf}^{-1}(2u - 1)`, u = ((w(seed, i, j) >> 9) + 1/2) / 2^23,
  which float32 holds exactly and which is never 0 or 1.

All entries are scaled by :math:`1/\sqrt k`, so that :math:`E\langle R^\top g, R^\top h\rangle =
\langle g, h\rangle`.
"""

import numpy as np
from scipy.special import erfinv

ROW_SALT = 0x9E3779B9
COLUMN_SALT = 0x7F4A7C15
WORD = 32


def mix(h: np.ndarray) -> np.ndarray:
    """f of equation (8) on uint32."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def key(seed: int, salt: int) -> int:
    """f(s XOR salt), the seed's part of equation (8)."""
    return int(mix(np.array([seed ^ salt], np.uint32))[0])


def words(seed: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """w of equation (8): uint32 [rows, columns]."""
    row_hash = mix(rows.astype(np.uint32) ^ np.uint32(key(seed, ROW_SALT)))
    column_hash = mix(columns.astype(np.uint32) ^ np.uint32(key(seed, COLUMN_SALT)))
    return mix(row_hash[:, None] ^ column_hash[None])


def matrix(kind: str, seed: int, rows: np.ndarray, k: int) -> np.ndarray:
    """Rows of R, float64 [rows, k]."""
    if kind == "rademacher":
        packed = words(seed, rows, np.arange(k // WORD))
        bits = (packed[:, :, None] >> np.arange(WORD, dtype=np.uint32)) & np.uint32(1)
        entries = 1.0 - 2.0 * bits.reshape(len(rows), k)
    else:
        uniform = ((words(seed, rows, np.arange(k)) >> np.uint32(9)) + 0.5) / 2.0**23
        entries = np.sqrt(2.0) * erfinv(2.0 * uniform - 1.0)
    return entries / np.sqrt(k)


def project(kind: str, seed: int, g: np.ndarray, k: int) -> np.ndarray:
    """g R with the matrix written out: float64 [sample, k]."""
    return g.astype(np.float64) @ matrix(kind, seed, np.arange(g.shape[1]), k)
