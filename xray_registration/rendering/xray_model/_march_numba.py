"""The ray marcher's inner loops, compiled by numba. Imported only through ray_marcher.

Rows are handed out by a thread pool of our own (the kernel releases the GIL): numba's parallel
back ends either abort when two Python threads call them at once (workqueue) or do not survive a
fork (OpenMP), and a ROS node does both.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

_TILE = 64  # columns marched together: the voxels that a tile crosses stay in the L2 cache


def _compiled(function: Any) -> Any:
    """numba.njit, with the machine code kept on disk where there is a folder to keep it in."""
    options = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"contract", "reassoc", "nsz"},
    }
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # installed read-only and no home: compile in every process
        return numba.njit(**options)(function)


@intrinsic
def _sum_samples(  # type: ignore[no-untyped-def]
    typingctx, flat, stride_y, stride_z, x0, y0, z0, dx, dy, dz, begin, end, count
):
    """Sums of both materials' trilinear samples at (x0, y0, z0) + j (dx, dy, dz), from j = begin.

    Goes on in groups of four until ``end`` is reached or passed; samples from ``count`` on weigh
    nothing. In LLVM's own words because its vectoriser does not see that both materials at x and x
    + 1 are four
    neighbouring floats: four 16-byte loads replace sixteen single ones.
    """
    single = types.float32
    signature = types.UniTuple(single, 2)(
        flat, types.int64, types.int64, *([single] * 6), types.int64, types.int64, types.int64
    )

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        flat_value, stride_y, stride_z, x0, y0, z0, dx, dy, dz, begin, end, count = args
        i32, i64, f32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
        ivec, fvec = ir.VectorType(i32, 4), ir.VectorType(f32, 4)
        fast = ("contract", "reassoc", "nsz")
        data = context.make_array(signature.args[0])(context, builder, flat_value).data
        # the four corners (y, z), (y + 1, z), (y, z + 1), (y + 1, z + 1) share one offset
        corners = [
            builder.gep(data, [offset])
            for offset in (ir.Constant(i64, 0), stride_y, stride_z, builder.add(stride_y, stride_z))
        ]

        def spread(value, kind):  # type: ignore[no-untyped-def]
            start = builder.insert_element(
                ir.Constant(kind, ir.Undefined), value, ir.Constant(i32, 0)
            )
            return pick(start, start, (0, 0, 0, 0))

        def pick(a, b, lanes):  # type: ignore[no-untyped-def]
            return builder.shuffle_vector(a, b, ir.Constant(ivec, list(lanes)))

        def lerp(low, high, weight):  # type: ignore[no-untyped-def]
            scaled = builder.fmul(weight, builder.fsub(high, low, flags=fast), flags=fast)
            return builder.fadd(low, scaled, flags=fast)

        origins = [spread(value, fvec) for value in (x0, y0, z0)]
        deltas = [spread(value, fvec) for value in (dx, dy, dz)]
        strides = [spread(builder.trunc(value, i32), ivec) for value in (stride_y, stride_z)]
        last = spread(builder.trunc(builder.sub(count, ir.Constant(i64, 1)), i32), ivec)
        one = ir.Constant(fvec, [1.0] * 4)
        total = cgutils.alloca_once_value(builder, ir.Constant(fvec, [0.0] * 4))
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(i64, 4)) as (index, _):
            wanted = builder.add(
                spread(builder.trunc(index, i32), ivec), ir.Constant(ivec, [0, 1, 2, 3])
            )
            valid = builder.icmp_signed("<=", wanted, last)
            j = builder.sitofp(builder.select(valid, wanted, last), fvec)
            cells, fractions = [], []
            for origin, delta in zip(origins, deltas, strict=True):
                position = builder.fadd(origin, builder.fmul(j, delta, flags=fast), flags=fast)
                cells.append(builder.fptosi(position, ivec))
                whole = builder.sitofp(cells[-1], fvec)
                fractions.append(builder.fsub(position, whole, flags=fast))
            offset = builder.shl(cells[0], ir.Constant(ivec, [1] * 4))
            for cell, stride in zip(cells[1:], strides, strict=True):
                offset = builder.add(offset, builder.mul(cell, stride))
            fx, fy, fz = fractions
            weight_high = builder.select(valid, fx, ir.Constant(fvec, [0.0] * 4))
            weight_low = builder.select(
                valid, builder.fsub(one, fx, flags=fast), ir.Constant(fvec, [0.0] * 4)
            )
            for lane in range(4):
                at = builder.sext(builder.extract_element(offset, ir.Constant(i32, lane)), i64)
                near_low, near_high, far_low, far_high = (
                    builder.load(
                        builder.bitcast(builder.gep(corner, [at]), fvec.as_pointer()), align=4
                    )
                    for corner in corners
                )
                wy = pick(fy, fy, [lane] * 4)
                plane = lerp(
                    lerp(near_low, near_high, wy),
                    lerp(far_low, far_high, wy),
                    pick(fz, fz, [lane] * 4),
                )
                wx = pick(weight_low, weight_high, (lane, lane, lane + 4, lane + 4))
                product = builder.fmul(plane, wx, flags=fast)
                builder.store(builder.fadd(builder.load(total), product, flags=fast), total)
        sums = builder.load(total)
        lanes = [builder.extract_element(sums, ir.Constant(i32, lane)) for lane in range(4)]
        pair = [builder.fadd(lanes[0], lanes[2]), builder.fadd(lanes[1], lanes[3])]
        return context.make_tuple(builder, signature.return_type, pair)

    return signature, codegen


@_compiled
def march_rows(
    density: NDArray[np.float32],
    occupied: NDArray[np.uint8],
    brick_shift: int,
    index_from_pixel: NDArray[np.float64],
    direction_from_pixel: NDArray[np.float64],
    source_index: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    step_mm: float,
    row_begin: int,
    row_end: int,
    out: NDArray[np.float32],
) -> None:
    """Fills ``out[row_begin:row_end]`` (H, W, 2) with both materials' mm * g/cm^3.

    ``density`` (Z, Y, X, 2) is padded by one voxel, so every sample in lower..upper has 8
    neighbours. ``index_from_pixel`` and ``direction_from_pixel`` map (u, v, 1) to the ray of unit
    depth in index units and in mm. Samples sit at the middle of n equal parts of the ray's way
    through the box.
    """
    size_y, size_x = density.shape[1], density.shape[2]
    stride_y, stride_z = 2 * size_x, 2 * size_x * size_y
    flat = density.ravel()
    width = out.shape[1]
    for column_begin in range(0, width, _TILE):
        for v in range(row_begin, row_end):
            for u in range(column_begin, min(column_begin + _TILE, width)):
                enter, leave = 0.0, math.inf
                for axis in range(3):
                    slope = (
                        index_from_pixel[axis, 0] * u
                        + index_from_pixel[axis, 1] * v
                        + index_from_pixel[axis, 2]
                    )
                    if slope != 0.0:
                        a = (lower[axis] - source_index[axis]) / slope
                        b = (upper[axis] - source_index[axis]) / slope
                        enter = max(enter, min(a, b))
                        leave = min(leave, max(a, b))
                    elif not lower[axis] <= source_index[axis] <= upper[axis]:
                        leave = -1.0
                if leave <= enter:
                    out[v, u, 0] = 0.0
                    out[v, u, 1] = 0.0
                    continue
                squared = 0.0
                for axis in range(3):
                    component = (
                        direction_from_pixel[axis, 0] * u
                        + direction_from_pixel[axis, 1] * v
                        + direction_from_pixel[axis, 2]
                    )
                    squared += component * component
                length_mm = (leave - enter) * math.sqrt(squared)
                count = max(1, math.ceil(length_mm / step_mm))
                part = (leave - enter) / count
                middle = enter + 0.5 * part
                slope_x = (
                    index_from_pixel[0, 0] * u + index_from_pixel[0, 1] * v + index_from_pixel[0, 2]
                )
                slope_y = (
                    index_from_pixel[1, 0] * u + index_from_pixel[1, 1] * v + index_from_pixel[1, 2]
                )
                slope_z = (
                    index_from_pixel[2, 0] * u + index_from_pixel[2, 1] * v + index_from_pixel[2, 2]
                )
                x0 = np.float32(source_index[0] + middle * slope_x)
                y0 = np.float32(source_index[1] + middle * slope_y)
                z0 = np.float32(source_index[2] + middle * slope_z)
                dx = np.float32(part * slope_x)
                dy = np.float32(part * slope_y)
                dz = np.float32(part * slope_z)
                total_0, total_1 = 0.0, 0.0
                k = 0
                while k < count:
                    kf = np.float32(k)
                    bx = int(x0 + kf * dx) >> brick_shift
                    by = int(y0 + kf * dy) >> brick_shift
                    bz = int(z0 + kf * dz) >> brick_shift
                    last = min(
                        min(
                            _parts_to_exit(x0, dx, bx, brick_shift),
                            _parts_to_exit(y0, dy, by, brick_shift),
                        ),
                        _parts_to_exit(z0, dz, bz, brick_shift),
                    )
                    k_end = count
                    if last < count:
                        k_end = max(k + 1, int(last) + 1)
                    if occupied[bz, by, bx] == 0:
                        k = k_end
                        continue
                    k_end = k + ((k_end - k + 3) & ~3)  # whole groups of four; count is respected
                    sum_0, sum_1 = _sum_samples(
                        flat, stride_y, stride_z, x0, y0, z0, dx, dy, dz, k, k_end, count
                    )
                    total_0 += sum_0
                    total_1 += sum_1
                    k = k_end
                scale = length_mm / count
                out[v, u, 0] = total_0 * scale
                out[v, u, 1] = total_1 * scale


@_compiled
def _parts_to_exit(origin: float, delta: float, brick: int, brick_shift: int) -> float:
    """How many steps of ``delta`` from ``origin`` reach the far face of ``brick`` along one
    axis.
    """
    if delta > 0.0:
        return (((brick + 1) << brick_shift) - origin) / delta
    if delta < 0.0:
        return ((brick << brick_shift) - origin) / delta
    return math.inf
