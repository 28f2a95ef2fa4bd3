r"""The projection matrix written out, in NumPy: what every implementation must reproduce
(method.md, section 5).

Entry (i, j) of the d x k matrix R comes from a counter hash of (seed, i, j), with f the finaliser
of MurmurHash3 (Appleby 2011), a bijection of 32-bit words that mixes every bit into every other:

.. math::
    w(s, i, c) = f\bigl(f(i \oplus f(s \oplus a)) \oplus f(c \oplus f(s \oplus b))\bigr)  \tag{5.2}

* ``rademacher``: bit j mod 32 of w(seed, i, j div 32) is the sign, +1 where it is 0 (one word
  serves 32 columns);
* ``gaussian``: :math:`\sqrt2\,\mathrm{erf}^{-1}(2u - 1)`, u = ((w(seed, i, j) >> 9) + 1/2) / 2^23,
  which float32 holds exactly and which is never 0 or 1;
* ``sjlt`` (Dasgupta, Kumar & Sarlos 2010; Kane & Nelson 2014, the block construction): a row has
  s = 4 entries, one in each block of K = k/s columns. The rows are cut in groups of K; in group q
  column c of block b meets row q K + pi(c), and bit 31 of w(seed, q, b K + c) is the sign. pi is a
  permutation of K = A B columns, A the largest divisor up to the root of K: with c = B l + r, four
  rounds of a Feistel network over Z_A x Z_B (Black & Rogaway 2002), t = 0..3 in turns

  .. math::
      l \leftarrow l + \lfloor A F_t(r) / 2^{16} \rfloor \bmod A, \qquad
      r \leftarrow r + \lfloor B F_t(l) / 2^{16} \rfloor \bmod B, \qquad
      F_t(x) = \lfloor f(w(seed, q, k + 4 b + t) \oplus x) / 2^{16} \rfloor               \tag{5.3}

  so that rows of a group never meet, rows of two groups meet in a block with probability 1/K, and

  .. math::
      R_{q K + \pi(c), b K + c} = \pm 1 / \sqrt s                                         \tag{5.4}

* ``srht`` (Ailon & Chazelle 2009; Tropp 2011): column j is column c_j of the Hadamard matrix over
  row numbers, after a sign D_i for each row, bit 31 of w(seed, i, 1):

  .. math::
      R_{ij} = D_i (-1)^{\mathrm{popcount}(i \wedge c_j)} / \sqrt k, \qquad
      c_j = B w(seed, j, 0) + (j \bmod B)                                                 \tag{5.5}

  with B the largest power of two that divides k. The domain has B 2^32 rows, those beyond d zero.
  Columns are sampled in strata: the low part of c_j takes every value k/B times, the high part is
  drawn with replacement. Any columns leave the inner product unbiased, by D alone; these make rows
  of one block of B orthogonal, which fewer or more of some low parts would not: two rows that
  differ in one bit may then agree in a third of all columns more than they differ;
* ``mask``: R has d rows, and column j is :math:`\sqrt{d/k}` at the j-th of k coordinates:

  .. math::
      \text{the first } k \text{ distinct of } w(seed, n, 0) \bmod 2^m \text{ below } d,
      \quad n = 0, 1, \dots, \quad m = \lceil\log_2 d\rceil, \text{ ascending}            \tag{5.7}

The entries of the first two are scaled by :math:`1/\sqrt k`; for every kind
:math:`E\langle R^\top g, R^\top h\rangle = \langle g, h\rangle`. For all but ``mask``

.. math::
    \mathrm{Var}\langle R^\top g, R^\top h\rangle = \frac{1}{k} \sum_{i,j}
    (g_i^2 h_j^2 + g_i h_i g_j h_j) v_{ij}                                                \tag{5.8}

with v = 1 everywhere (``gaussian``), but 0 at i = j (``rademacher``), for rows of one group of K
(``sjlt``) or of one block of B (``srht``). For ``mask`` it is (d/k)(d - k)/(d - 1) times the
spread :math:`\sum_i (x_i - \bar x)^2` of x_i = g_i h_i: no bound in the norms of g and h.
"""

import math
from collections.abc import Callable

import numpy as np

ROW_SALT = 0x9E3779B9
COLUMN_SALT = 0x7F4A7C15
WORD = 32
NONZEROS = 4
"""Entries s of a row of ``sjlt``. Equation (5.8) holds for every s, but few entries have heavy
tails where few coordinates are large: of log-normal vectors (sigma = 2, k = 1024) the squared norm
is off by more than 0.21, 0.23, 0.15, 0.13 once in a thousand at s = 1, 2, 4, 8; with dense signs
0.14."""
ROUNDS = 4
"""Rounds of the permutation of ``sjlt``."""


def sides(size: int) -> tuple[int, int]:
    """A and B of equations (5.3) and (5.9): A B = size, A the largest divisor up to the root."""
    a = next(a for a in range(math.isqrt(size), 0, -1) if size % a == 0)
    return a, size // a


def block_rows(k: int) -> int:
    """B of equation (5.5): the largest power of two that divides k."""
    return k & -k


def mix(h: np.ndarray) -> np.ndarray:
    """f of equation (5.2) on uint32."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def key(seed: int, salt: int) -> int:
    """f(s XOR salt), the seed's part of equation (5.2)."""
    return int(mix(np.array([seed ^ salt], np.uint32))[0])


def words(seed: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """w of equation (5.2): uint32 [rows, columns]."""
    row_hash = mix(rows.astype(np.uint32) ^ np.uint32(key(seed, ROW_SALT)))
    column_hash = mix(columns.astype(np.uint32) ^ np.uint32(key(seed, COLUMN_SALT)))
    return mix(row_hash[:, None] ^ column_hash[None])


def matrix(kind: str, seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    """Rows of R, which has d of them: float64 [rows, k]."""
    return MATRICES[kind](seed, rows, k, d)


def project(kind: str, seed: int, g: np.ndarray, k: int) -> np.ndarray:
    """g R with the matrix written out: float64 [sample, k]."""
    d = g.shape[1]
    return g.astype(np.float64) @ matrix(kind, seed, np.arange(d), k, d)


def _rademacher(seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    packed = words(seed, rows, np.arange(k // WORD))
    bits = (packed[:, :, None] >> np.arange(WORD, dtype=np.uint32)) & np.uint32(1)
    return (1.0 - 2.0 * bits.reshape(len(rows), k)) / np.sqrt(k)


def _gaussian(seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    from scipy.special import erfinv

    uniform = ((words(seed, rows, np.arange(k)) >> np.uint32(9)) + 0.5) / 2.0**23
    return np.sqrt(2.0) * erfinv(2.0 * uniform - 1.0) / np.sqrt(k)


def _sjlt(seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    size = k // NONZEROS
    entries = np.zeros((len(rows), k))
    for group in np.unique(rows // size):
        sign = 1.0 - 2.0 * (words(seed, group[None], np.arange(k))[0] >> np.uint32(31))
        for block in range(NONZEROS):
            met = group * size + _permutation(seed, int(group), block, k)
            at, column = (rows[:, None] == met).nonzero()
            column += block * size
            entries[at, column] = sign[column]
    return entries / np.sqrt(NONZEROS)


def _permutation(seed: int, group: int, block: int, k: int) -> np.ndarray:
    """pi of equation (5.3) at 0 .. K - 1."""
    a, b = sides(k // NONZEROS)
    left, right = np.divmod(np.arange(a * b), b)
    for t in range(ROUNDS):
        key = words(seed, np.array([group]), np.array([k + ROUNDS * block + t]))[0]
        if t % 2 == 0:
            left = (left + a * _upper(key, right) // 2**16) % a
        else:
            right = (right + b * _upper(key, left) // 2**16) % b
    return left * b + right


def _upper(key: np.ndarray, x: np.ndarray) -> np.ndarray:
    """F of equation (5.3) as int64."""
    return (mix(key ^ x.astype(np.uint32)) >> np.uint32(16)).astype(np.int64)


def _srht(seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    size = block_rows(k)
    high = words(seed, np.arange(k), np.array([0]))[:, 0].astype(np.uint64)
    columns = high * np.uint64(size) + (np.arange(k) % size).astype(np.uint64)
    random = 1.0 - 2.0 * (words(seed, rows, np.array([1])) >> np.uint32(31))
    parity = np.bitwise_count(rows.astype(np.uint64)[:, None] & columns[None]) & 1
    return random * (1.0 - 2.0 * parity) / np.sqrt(k)


def _mask(seed: int, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    found: dict[int, None] = {}
    counter = 0
    while len(found) < k:
        drawn = int(words(seed, np.array([counter]), np.array([0]))[0, 0])
        drawn %= 2 ** (d - 1).bit_length()
        if drawn < d:
            found.setdefault(drawn)
        counter += 1
    return np.sqrt(d / k) * (rows[:, None] == np.array(sorted(found))[None])


MATRICES: dict[str, Callable[[int, np.ndarray, int, int], np.ndarray]] = {
    "rademacher": _rademacher,
    "gaussian": _gaussian,
    "sjlt": _sjlt,
    "srht": _srht,
    "mask": _mask,
}
