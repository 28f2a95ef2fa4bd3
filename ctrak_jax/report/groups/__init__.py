"""Influence by group: its tables, and its picture."""

from ctrak_jax.report.groups.table import GroupQuestion as GroupQuestion
from ctrak_jax.report.groups.table import GroupRow as GroupRow
from ctrak_jax.report.groups.table import GroupTable as GroupTable
from ctrak_jax.report.groups.table import write_groups as write_groups
