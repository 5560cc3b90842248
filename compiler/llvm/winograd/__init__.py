"""Convolutions of 3 x 3 windows by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, 2015), where it pays.

In groups and dilated ones too, and windows over more axes as slices of 3 x 3.

    plan = winograd_plan(spec, target)        # choose.py: None where direct products are estimated faster

| what | file |
|---|---|
| squares, places, units: values only | `plan.py` |
| whether, and in which units | `choose.py` |
| the launches | `emit.py` |
| image, filter and result, there and back | `transform.py` |
| results that are not finite, once more and directly | `repair.py` |
"""
