"""Convolutions of 3 x 3 windows, and gradients of their filters, by Winograd's minimal filtering (Lavin & Gray, 2015).

Where it pays.  In groups and dilated ones too, and windows over more axes as slices of 3 x 3.

    plan = winograd_plan(spec, target)        # choose.py: None where direct products are estimated faster
    plan = gradient_plan(spec, target)        # gradient_choose.py

| what | of a convolution, F(2x2, 3x3) | of a filter's gradient, F(3x3, 2x2) |
|---|---|---|
| places, units: values only | `plan.py` | `gradient_plan.py` |
| whether, and in which units | `choose.py` | `gradient_choose.py` |
| the launches | `emit.py` | `gradient_emit.py` |
| results that are not finite, once more and directly | `repair.py` | `gradient_repair.py` |

| what both share | file |
|---|---|
| windows and squares, in values and in code | `windows.py`, `squares.py` |
| lines there and back: the arithmetic | `lines.py` |
| pieces of an image or of gradients, transformed | `pieces.py` |
| filters there, and results back | `transform.py` |
| the products of all places | `products.py` |
"""
