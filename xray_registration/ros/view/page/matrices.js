// 4x4 matrices row by row, and points of three numbers.

export function multiply(a, b) {
  const out = new Array(16);
  for (let r = 0; r < 4; r++) {
    for (let c = 0; c < 4; c++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[4 * r + k] * b[4 * k + c];
      out[4 * r + c] = sum;
    }
  }
  return out;
}

export function transform(m, p) {
  return [0, 1, 2, 3].map((r) => m[4 * r] * p[0] + m[4 * r + 1] * p[1] + m[4 * r + 2] * p[2] + m[4 * r + 3]);
}

export const subtract = (a, b) => a.map((v, i) => v - b[i]);
export const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const unit = (a) => a.map((v) => v / Math.hypot(...a));

// View axes as OpenGL has them: x right, y up, looking along -z.
export function lookAt(eye, target, up) {
  const back = unit(subtract(eye, target));
  const right = unit(cross(up, back));
  const above = cross(back, right);
  return [right, above, back].flatMap((axis) => [...axis, -dot(axis, eye)]).concat([0, 0, 0, 1]);
}

export function perspective(fieldDegrees, aspect, near, far) {
  const f = 1 / Math.tan((fieldDegrees * Math.PI) / 360);
  return [f / aspect, 0, 0, 0, 0, f, 0, 0,
    0, 0, (far + near) / (near - far), (2 * far * near) / (near - far), 0, 0, -1, 0];
}
