r"""The Fisher approximation over projected gradients and its solves (method.md, section 5).

.. math::
    G = \sum_i \phi_i \phi_i^\top, \qquad
    \lambda = 0.1 r \operatorname{tr}(G) / k, \qquad (G + \lambda I) z = \phi_q           \tag{5.10}

:func:`solve` picks a solver by n, k and memory. Features come as :class:`Rows`, wherever they are.

=========  ============================  ======================================================
solver     memory                        taken where
=========  ============================  ======================================================
spectrum   Phi and min(n, k)^2, float64  min(n, k) <= 4,096: any number of dampings at one cost
cholesky   k^2                           k <= n
dual       Phi and n^2                   n < k
cg         a block of Phi                none of the others fits
=========  ============================  ======================================================
"""

from ctrak_jax.fisher.api import SOLVERS, Solution, Solver, Vectors, choose, gram_fits, solve
from ctrak_jax.fisher.direct import cholesky, dual
from ctrak_jax.fisher.gram import damping, init, merge, update
from ctrak_jax.fisher.rows import Block, Matrix, RowFn, Rows, normal_product, outer, squares

__all__ = [
    "SOLVERS",
    "Block",
    "Matrix",
    "RowFn",
    "Rows",
    "Solution",
    "Solver",
    "Vectors",
    "cholesky",
    "choose",
    "damping",
    "dual",
    "gram_fits",
    "init",
    "merge",
    "normal_product",
    "outer",
    "solve",
    "squares",
    "update",
]
