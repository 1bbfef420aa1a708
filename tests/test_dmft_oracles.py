"""The sweep against the older form of its theory, with two-time functions and derivatives of the loss, in NumPy."""

import numpy as np
import pytest

from riron.problems import TeacherStudent
from riron.theory.dmft import solve, solving

pytestmark = pytest.mark.usefixtures("quick_compilation")

DELTA, RHO, NOISE, START, OVERLAP = 1.5, 2.0, 0.2, 1.3, 0.5
PROBLEM = TeacherStudent(
    50, activation="tanh", link="tanh", teacher_gram=RHO, label_noise=NOISE, start_gram=START, overlap=OVERLAP
)


def tangent_route(rng, dt, steps, share, paths):
    """Train loss, overlap and self-overlap at each step: covariances C, responses R, tangents D of every path.

    theta_{k+1} = theta_k - sum_s M(k,s) theta_s - M*(k) theta* + u_k with Cov(u_k, u_s) = H(k,s) / delta, and a sample
    r_k = w_k - sum_s R(k,s) h_s / delta with M(k,s) = dt E[dell_k / dw_s]; M* from E[ell w*] by Stein's identity.
    """
    T = steps + 1
    C, R, M, H = np.zeros((4, T, T))
    q, M_star = np.zeros((2, T))
    C[0, 0], q[0] = START, OVERLAP
    free = rng.normal(size=(T + 2, paths))
    free -= free.mean(axis=1, keepdims=True)
    free = np.linalg.solve(np.linalg.cholesky(free @ free.T / paths), free)  # exact moments: less chance
    (star, z), normal = free[:2] * np.sqrt([[RHO], [NOISE]]), free[2:]
    h, D, weights, train = np.zeros((T, paths)), np.zeros((T, T, paths)), np.zeros((T, paths)), []
    for k in range(T):
        left = C[: k + 1, : k + 1] - np.outer(q[: k + 1], q[: k + 1]) / RHO
        factor = np.linalg.cholesky(left + 1e-9 * np.eye(k + 1))
        w = q[k] / RHO * star + factor[k] @ normal[: k + 1]
        r = w - R[k, :k] @ h[:k] / DELTA
        gap, slope = np.tanh(r) - np.tanh(star) - z, 1 - np.tanh(r) ** 2
        train.append(np.mean(gap**2) / 2)
        weights[k] = dt / share * (rng.random(paths) < share) if share < 1 else dt
        h[k], ell = weights[k] * gap * slope, gap * slope
        curvature = slope**2 - 2 * np.tanh(r) * slope * gap
        felt = np.einsum("j,jp,jsp->sp", R[k, :k], weights[:k], D[:k, : k + 1])
        D[k, : k + 1] = -curvature * felt / DELTA
        D[k, k] += curvature
        if k == steps:
            break
        M[k, : k + 1] = dt * D[k, : k + 1].mean(axis=1)
        M_star[k] = (dt * np.mean(ell * star) - M[k, : k + 1] @ q[: k + 1]) / RHO
        H[k, : k + 1] = H[: k + 1, k] = h[: k + 1] @ h[k] / paths
        R[k + 1, : k + 1] = R[k, : k + 1] - M[k, : k + 1] @ R[: k + 1, : k + 1]
        R[k + 1, k] += 1
        q[k + 1] = q[k] - M[k, : k + 1] @ q[: k + 1] - M_star[k] * RHO
        noise = R[:, : k + 1] @ H[: k + 1, k] / DELTA
        row = C[k, : k + 1] - M[k, : k + 1] @ C[: k + 1, : k + 1] - M_star[k] * q[: k + 1] + noise[: k + 1]
        C[k + 1, : k + 1] = C[: k + 1, k + 1] = row
        C[k + 1, k + 1] = C[k, k + 1] - M[k, : k + 1] @ C[: k + 1, k + 1] - M_star[k] * q[k + 1] + noise[k + 1]
    return np.array([train, q, np.diag(C)])


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_the_tangent_route_gives_the_same_line(share):
    dt, steps, names = 0.4, 12, ("train_loss", "overlap", "self_overlap")
    rng, at = np.random.default_rng(0), [2, 6, 12]
    found = np.array([tangent_route(rng, dt, steps, share, 6000) for _ in range(8)])[:, :, at]
    told = {"batch_fraction": share} if share < 1 else {}
    line = solve(PROBLEM, delta=DELTA, horizon=dt * steps, dt=dt, record=dt * np.array(at), paths=65_536, **told)
    other = solve(PROBLEM, delta=1.3 * DELTA, horizon=dt * steps, dt=dt, record=dt * np.array(at), **told)
    refuted = False
    for k, name in enumerate(names):
        mean, own = found[:, k].mean(axis=0), found[:, k].std(axis=0, ddof=1) / np.sqrt(len(found))
        allowed = 7 * np.hypot(own, line[f"{name}_stderr"].values) + 2e-3  # t quantile of 7 degrees of freedom at 2e-4
        np.testing.assert_array_less(np.abs(line[name].values - mean), allowed, err_msg=name)
        refuted |= bool((np.abs(other[name].values - mean) > 1.5 * allowed).any())
    assert refuted
    assert (line.overlap**2 <= RHO * line.self_overlap).all()


def test_without_the_ridge_of_the_regression_gradient_flow_is_unusable():
    """Smooth paths are nearly determined by their past: responses fitted without a ridge scatter."""
    told = {"delta": 2.0, "horizon": 12.0, "dt": 0.1, "record": [12.0], "paths": 16_384, "groups": 32}
    line = solve(PROBLEM, **told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "RESPONSE_SCALE", 1e4)
        without = solve(PROBLEM, **told)
    assert without.test_loss_stderr > 2.2 * line.test_loss_stderr  # F of 31 and 31 degrees of freedom: 3e-5
