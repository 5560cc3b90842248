"""Steps of random programs that differentiate and that update variables, on the way and at the end."""

from __future__ import annotations

from tests.e2e.random.drawing import Drawing, Value, product, require


def loss_of(d: Drawing) -> Value:
    """A scalar that many of the latest floats take part in."""
    floats = [v for v in d.values if v.dtype.startswith("float")]
    require(bool(floats))
    terms = []
    for v in {v.name: v for v in [floats[-1], *d.some(floats[-6:], 3)] if v.dtype == floats[-1].dtype}.values():
        if product(v.shape):
            terms.append(
                d.choice(
                    ("tf.reduce_mean(tf.square({v}))", "tf.reduce_sum({v}) * 0.1", "tf.reduce_mean(tf.tanh({v}))")
                ).format(v=v.name)
            )
    require(bool(terms))
    return d.make(" + ".join(terms))


def gradients(d: Drawing) -> None:
    """The derivatives of a loss with respect to floats that were fed, and to values on the way."""
    loss = loss_of(d)
    inputs = [f.name for f in d.feeds if f.dtype.startswith("float")]
    require(bool(inputs))
    wanted = d.some(inputs, 4) + (
        d.some([v.name for v in d.values if v.dtype.startswith("float")], 1) if d.chance(0.3) else []
    )
    for name in dict.fromkeys(wanted):
        line = f"derivative = tf.gradients({loss.name}, [{name}])[0]"
        d.declare(line, line)
        if d.names["derivative"] is not None:
            d.make(f"tf.gradients({loss.name}, [{name}])[0]")


def derived(d: Drawing) -> Value:
    """A derivative on the way: what is made of it may be differentiated again."""
    require(d.kind.gradients)
    y = d.pick("f")
    fed = [f.name for f in d.feeds if f.dtype.startswith("float") and f.role != "constant"]
    inputs = d.some([*fed, *(v.name for v in d.values if v.kind == "f")], 2)
    require(bool(inputs))
    weights = [v.name for v in d.values if (v.dtype, v.shape) == (y.dtype, y.shape) and d.chance(0.3)]
    line = f"derivative = tf.gradients({y.name}, [{', '.join(inputs)}]{f', {weights[0]}' if weights else ''})"
    d.declare(line, line)
    found = [n for n, g in enumerate(d.names["derivative"]) if g is not None]
    require(bool(found))
    return d.make(f"{line.split(' = ')[1]}[{d.choice(found)}] * 0.25")


def assigned(d: Drawing) -> Value:
    """What a variable becomes, or what is read of it behind that."""
    variables = [f for f in d.feeds if f.role == "Variable"]
    require(bool(variables))
    v = d.choice(variables)
    fits = [x for x in d.values if x.shape == v.shape and x.dtype == v.dtype]
    how = "assign" if v.dtype == "bool" else d.choice(("assign", "assign_add", "assign_sub"))
    become = f"tf.{how}({v.name}, {d.choice(fits).name})"
    if d.chance(0.5):
        return d.make(become)
    name = f"u{len(d.lines)}"
    d.run(f"{name} = {become}.op")
    d.operations.append(name)
    other = d.choice(variables).name
    read = (f"{other}.read_value()", f"tf.tuple([{other}.read_value()], control_inputs=[{name}])[0]")
    return d.make(d.choice(read))


def updates(d: Drawing) -> None:
    """An optimizer's step, or assignments."""
    if d.chance(0.3):
        assigned(d)
        if d.chance(0.5):
            return
    variables = [f for f in d.feeds if f.role == "Variable" and f.dtype.startswith("float")]
    require(bool(variables))
    loss = loss_of(d)
    names = ", ".join(f.name for f in variables)
    line = f"derivatives = tf.gradients({loss.name}, [{names}])"
    d.declare(line, line)
    reached = [f.name for f, g in zip(variables, d.names["derivatives"], strict=True) if g is not None]
    require(bool(reached))
    optimizer = d.choice(
        ("GradientDescentOptimizer(0.1)", "MomentumOptimizer(0.1, 0.9)",
         "MomentumOptimizer(0.1, 0.9, use_nesterov=True)",
         "AdamOptimizer(0.1, epsilon=0.1)", "AdamOptimizer(tf.constant(0.05), 0.8, 0.9, epsilon=0.1)")
    )  # fmt: skip
    name = f"u{len(d.lines)}"
    wanted = f"[{', '.join(reached)}]"
    if d.chance(0.3):
        clipped = f"tf.clip_by_global_norm(tf.gradients({loss.name}, {wanted}), {d.choice((0.1, 1.0))})[0]"
        d.run(f"{name} = tf.train.{optimizer}.apply_gradients(zip({clipped}, {wanted}))")
    else:
        d.run(f"{name} = tf.train.{optimizer}.minimize({loss.name}, var_list={wanted})")
    d.operations.append(name)
