"""Experiments on recurrent cells: long-lag tasks, gradient norms, comparisons of cells."""
