"""Scalar re-statements of every formula: no torch, no vectorisation, no log-sum-exp."""

from __future__ import annotations

import math
from statistics import NormalDist


def softmax_ce(logits: list[float], label: int) -> float:
    """-log( e^{z_y} / sum_j e^{z_j} )."""
    return -math.log(math.exp(logits[label]) / sum(math.exp(z) for z in logits))


def sigmoid_ce(logit: float, target: float) -> float:
    """-t log s - (1 - t) log(1 - s), s = 1 / (1 + e^{-z})."""
    s = 1 / (1 + math.exp(-logit))
    return -target * math.log(s) - (1 - target) * math.log(1 - s)


def balanced_softmax(
    logits: list[float], label: int, counts: list[float], tau: float = 1.0
) -> float:
    """-log( n_y^tau e^{z_y} / sum_j n_j^tau e^{z_j} ): Eq. 4 for tau 1, Eq. 10 for tau 1/4."""
    weighted = [n**tau * math.exp(z) for n, z in zip(counts, logits)]
    return -math.log(weighted[label] / sum(weighted))


def balanced_sigmoid(
    logits: list[float],
    label: int | None,
    counts: list[float],
    num_images: int,
    keep_constant: bool = False,
) -> list[float]:
    """Eq. 36 for a foreground label, plain binary cross-entropy for None (background)."""
    losses = []
    k, n = len(counts), num_images
    for j, (z, n_j) in enumerate(zip(logits, counts)):
        if label is not None:
            if keep_constant:
                z = z - math.log((n / k) / n_j * (n - n_j) / (n - n / k))
            else:
                z = z - math.log((n - n_j) / n_j)
        losses.append(sigmoid_ce(z, 1.0 if j == label else 0.0))
    return losses


def sigmoid_focal(x: float, target: float, alpha: float | None = 0.25, gamma: float = 2.0) -> float:
    """-alpha_t (1 - p_t)^gamma log p_t."""
    p_t = right(x, target)
    return alpha_t(target, alpha) * -((1 - p_t) ** gamma) * math.log(p_t)


def softmax_focal(logits: list[float], label: int, gamma: float = 1.0) -> float:
    """-(1 - p_y)^gamma log p_y."""
    p = softmax(logits)[label]
    return -((1 - p) ** gamma) * math.log(p)


def sigmoid_halted_focal(
    x: float,
    target: float,
    alpha: float = 0.25,
    gamma: float = 2.0,
    phi: float = 0.5,
    mode: str = "positives",
) -> float:
    """Eq. 6 with b = -(1 - (1 - phi)^gamma) log phi, on the elements that the mode halts."""
    score, p_t, threshold = sigmoid(x), right(x, target), phi
    if mode == "positives":
        halted = target == 1 and p_t > phi
    elif mode == "p_t":
        halted = p_t > phi
    else:
        halted = score > phi
        if target == 0:
            threshold = 1 - phi
    if not halted:
        return sigmoid_focal(x, target, alpha, gamma)
    b = -(1 - (1 - threshold) ** gamma) * math.log(threshold)
    return -alpha_t(target, alpha) * (math.log(p_t) + b)


def softmax_halted_focal(
    logits: list[float],
    label: int,
    counts: list[float],
    gamma: float = 1.0,
    phi: float = 0.5,
    tail_fraction: float = 1.0,
) -> float:
    """Eq. 6 for the round(t C) rarest classes, focal loss for the others."""
    rarest_first = sorted(range(len(counts)), key=lambda k: (counts[k], k))
    p = softmax(logits)[label]
    if label not in rarest_first[: round(tail_fraction * len(counts))] or p <= phi:
        return softmax_focal(logits, label, gamma)
    return -math.log(p) + (1 - (1 - phi) ** gamma) * math.log(phi)


def eureka_bonus(
    p: float,
    bonus: str = "log",
    log_end: float = 0.75,
    power: float = 4.0,
    phi: float = 0.5,
    clamp_eps: float = 1e-5,
) -> float:
    """Loss-side bonus: Eq. 8, its tangent beyond log_end, Eq. 10, Eq. 11."""
    log_wrong = math.log(max(1 - p, clamp_eps))
    if bonus == "log":
        return log_wrong
    if bonus == "conservative":
        if p <= log_end:
            return log_wrong
        tangent = math.log(1 - log_end) - (p - log_end) / (1 - log_end)
        return max(tangent, math.log(clamp_eps)) if clamp_eps else tangent
    if bonus == "power":
        return -(p**power)
    return log_wrong - math.log(max(1 - phi, clamp_eps)) if p > phi else 0.0


def softmax_eureka(
    logits: list[float],
    label: int,
    counts: list[float],
    bonus_scale: float = 1.0,
    beta: float = 0.9999,
    normalisation: str = "mean_one",
    **bonus: object,
) -> float:
    """-log p_y + scale w_y bonus(p_y)."""
    p = softmax(logits)[label]
    weight = class_weights(counts, "effective_number", beta, normalisation)[label]
    return -math.log(p) + bonus_scale * weight * eureka_bonus(p, **bonus)


def sigmoid_eureka(
    x: float,
    target: float,
    weight: float = 1.0,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    bonus_scale: float = 1.0,
    bonus: str = "conservative",
    **shape: object,
) -> float:
    """Focal loss, and on positives scale w_k bonus(p)."""
    loss = sigmoid_focal(x, target, alpha, gamma)
    if target == 1:
        loss += bonus_scale * weight * eureka_bonus(sigmoid(x), bonus, **shape)
    return loss


def class_weights(
    counts: list[float], name: str, beta: float = 0.9999, normalisation: str = "mean_one"
) -> list[float]:
    """1 / E_k or 1 / n_k, E = (1 - beta^n) / (1 - beta), normalised."""
    frequency = [(1 - beta**n) / (1 - beta) if name == "effective_number" else n for n in counts]
    inverse = [1 / f for f in frequency]
    factor = {
        "mean_one": len(counts) / sum(inverse),
        "paper": sum(frequency) / len(counts),
        "max": 1 / max(inverse),
    }[normalisation]
    return [factor * w for w in inverse]


def sigmoid(x: float) -> float:
    """1 / (1 + e^{-x})."""
    return 1 / (1 + math.exp(-x))


def softmax(logits: list[float]) -> list[float]:
    """e^{z_k} / sum_j e^{z_j}."""
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def right(x: float, target: float) -> float:
    """Probability of the correct label."""
    return sigmoid(x) if target == 1 else 1 - sigmoid(x)


def alpha_t(target: float, alpha: float | None) -> float:
    """Alpha of positives, 1 - alpha of negatives."""
    if alpha is None:
        return 1.0
    return alpha if target == 1 else 1 - alpha


def ldam(
    logits: list[float], label: int, counts: list[float], max_margin: float, scale: float
) -> float:
    """-log( e^{z_y - s d_y} / (e^{z_y - s d_y} + sum_{j != y} e^{z_j}) )."""
    margin = max_margin * counts[label] ** -0.25 / max(n**-0.25 for n in counts)
    own = math.exp(logits[label] - scale * margin)
    return -math.log(own / (own + sum(math.exp(z) for j, z in enumerate(logits) if j != label)))


def equalization(logits: list[float], label: int, spared: list[bool]) -> float:
    """-log( e^{z_y} / sum_j w_j e^{z_j} ), w_j = 0 for classes that are spared and not y."""
    weights = [0.0 if spare and j != label else 1.0 for j, spare in enumerate(spared)]
    return -math.log(
        math.exp(logits[label]) / sum(w * math.exp(z) for w, z in zip(weights, logits))
    )


def weighted_sigmoid_ce(
    logits: list[float], label: int, positive: list[float], negative: list[float]
) -> list[float]:
    """Binary cross-entropies, times a weight of the column for positives and for negatives.

    A label beyond the last column is none of them.
    """
    return [
        (positive[j] if j == label else negative[j]) * sigmoid_ce(z, float(j == label))
        for j, z in enumerate(logits)
    ]


def eqlv2_weights(
    positive: list[float], negative: list[float], gamma=12.0, mu=0.8, alpha=4.0
) -> tuple[list[float], list[float]]:
    """Weights of positives, 1 + alpha (1 - v), and of negatives, v, from sums of gradients."""
    ratios = [p / (q + 1e-10) if p + q else 100.0 for p, q in zip(positive, negative)]
    v = [1 / (1 + math.exp(-gamma * (g - mu))) for g in ratios]
    return [1 + alpha * (1 - one) for one in v], v


def gumbel(x: float, target: float) -> float:
    """-log p for positives, -log(1 - p) for negatives, p = exp(-e^{-x})."""
    p = math.exp(-math.exp(-x))
    return -math.log(p) if target else -math.log(1 - p)


def ecm(
    logits: list[float], label: int, counts: list[float], ratio: float | None = None
) -> list[float]:
    """Weighted cross-entropies of e^{z + w+} / (e^{z + w+} + e^{-z + w-}), the release's form.

    With ``ratio`` there is a last column for the background.
    """
    masses = [*counts, ratio * sum(counts)] if ratio is not None else list(counts)
    losses = []
    for j, (z, m) in enumerate(zip(logits, masses)):
        others = sum(masses) - m
        up, down = math.exp(z) * (m / others) ** 0.125, math.exp(-z) * (others / m) ** 0.125
        p = up / (up + down)
        weight = others / m * math.log((others / m + 1) / (others / m))
        losses.append(-weight * (math.log(p) if j == label else math.log(1 - p)))
    return losses


def seesaw(
    logits: list[float],
    label: int,
    seen: list[float],
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
) -> float:
    """The part of the classes, for a foreground label."""
    scores = softmax(logits)
    total = 0.0
    for j, z in enumerate(logits):
        factor = 1.0
        if j != label:
            factor *= min(1.0, max(seen[j], 1) / max(seen[label], 1)) ** p
            factor *= max(1.0, scores[j] / max(scores[label], eps)) ** q
        total += factor * math.exp(z)
    return -math.log(math.exp(logits[label]) / total)


def eql_kept(label: int, rare: list[bool]) -> list[float]:
    """1 for the elements of a row that count; labels beyond the last class are background."""
    foreground = label < len(rare)
    return [0.0 if foreground and r and j != label else 1.0 for j, r in enumerate(rare)]


def acsl_kept(
    logits: list[float], label: int, groups: str, threshold: float, drawn: str = "f"
) -> list[float]:
    """1 for the elements that count; groups: a letter of r, c, f for each class, b background.

    ``drawn``: letters of the groups that this background row is drawn for.
    """
    if label >= len(groups.rstrip("b")):
        return [float(letter in drawn + "b") for letter in groups]
    scores = [1 / (1 + math.exp(-z)) for z in logits]
    return [float(j == label or s >= threshold) for j, s in enumerate(scores)]


def efl(x: float, target: float, g: float, alpha=0.25, gamma=2.0, scale=8.0) -> float:
    """-alpha_t gamma_c / gamma (1 - p_t)^gamma_c log p_t, gamma_c = gamma + scale (1 - g)."""
    focus = gamma + scale * (1 - g)
    p_t = right(x, target)
    return -alpha_t(target, alpha) * focus / gamma * (1 - p_t) ** focus * math.log(p_t)


def bags(
    rows: list[list[float]],
    labels: list[int],
    counts: list[float],
    bounds: tuple[float, ...] = (10.0, 100.0, 1000.0),
    others_ratio: float = 8.0,
    background: bool = False,
) -> list[float]:
    """N times each row's share of the sum of the groups' means; no draws: all others, or none.

    Columns: classes, others of each group, object, background; without a background the classes
    alone, and others has the logit 0.
    """
    k, losses = len(counts), [0.0] * len(rows)
    groups = [sum(n >= bound for bound in bounds) for n in counts]
    for g in range(len(bounds) + 1):
        members = [j for j in range(k) if groups[j] == g]
        own = [y in members for y in labels]
        if not any(own):
            continue
        wanted = int(others_ratio * sum(own))
        assert wanted == 0 or wanted >= len(rows) - sum(own)
        used = [i for i in range(len(rows)) if own[i] or wanted]
        for i in used:
            others = rows[i][k + g] if background else 0.0
            total = math.exp(others) + sum(math.exp(rows[i][j]) for j in members)
            correct = rows[i][labels[i]] if own[i] else others
            losses[i] -= math.log(math.exp(correct) / total) * len(rows) / len(used)
    if background:
        for i, (z, y) in enumerate(zip(rows, labels)):
            losses[i] += softmax_ce(z[-2:], int(y >= k))
    return losses


def iif(
    logits: list[float],
    label: int,
    counts: list[float],
    num_images: int,
    variant: str = "raw",
    background: bool = False,
) -> float:
    """Softmax cross-entropy of each logit times the inverse image frequency of its class."""
    factors = []
    for n in counts:
        f = n / num_images
        factors.append(
            {
                "raw": math.log(num_images / n),
                "smooth": math.log((num_images + 1) / (n + 1)) + 1,
                "rel": math.log((num_images - n) / n),
                "normit": -NormalDist().inv_cdf(f),
                "gombit": -math.log(-math.log(1 - f)),
                "base2": math.log2(num_images / n),
                "base10": math.log10(num_images / n),
            }[variant]
        )
    return softmax_ce([w * z for w, z in zip([*factors, *[1.0] * background], logits)], label)


def equilibrium(logits: list[float], label: int, scores: list[float]) -> float:
    """-log( s_y e^{z_y} / sum_j s_j e^{z_j} )."""
    weighted = [s * math.exp(z) for s, z in zip(scores, logits)]
    return -math.log(weighted[label] / sum(weighted))
