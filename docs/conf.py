"""Settings of the documentation site: `make docs` builds it into build/site."""

import os
import sys
from importlib import metadata
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))
# Notebooks and autodoc run on the CPU, wherever the site is built.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "ctrak_jax"
author = "The ctrak-jax authors"
copyright = "The ctrak-jax authors, Apache-2.0"
release = metadata.version("ctrak-jax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "equations",
    "outside",
    "commands",
    "signatures",
    "checks",
]
exclude_patterns = ["conf.py", "_extensions", "_static", "Thumbs.db", ".DS_Store"]
nitpicky = True

# Markdown as GitHub reads it: anchors of headings, mathematics between dollars.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 5
myst_dmath_double_inline = False

# Notebooks are executed by every build, and an exception fails it.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress, and warnings with paths of the machine
nb_ipywidgets_js = {}  # nothing is fetched from elsewhere

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"no-value": True}
napoleon_attr_annotations = False
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Annotations that are no object of these pages: shapes, type variables, other libraries.
nitpick_ignore_regex = [("py:(class|obj|exc|mod)", ".*")]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "ctrak_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
