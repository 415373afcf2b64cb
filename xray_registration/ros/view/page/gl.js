// A small renderer on WebGL 2: flat-shaded triangles, lines, points and one textured quad.

const VERTEX = `#version 300 es
uniform mat4 clipFromView, viewFromModel;
uniform float pointSize;
in vec3 position;
in vec2 texel;
out vec3 inView;
out vec2 uv;
void main() {
  vec4 p = viewFromModel * vec4(position, 1.0);
  inView = p.xyz;
  uv = texel;
  gl_PointSize = pointSize;
  gl_Position = clipFromView * p;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 colour;
uniform bool isShaded, isTextured;
uniform sampler2D picture;
in vec3 inView;
in vec2 uv;
out vec4 result;
void main() {
  vec3 base = isTextured ? texture(picture, uv).rgb : colour.rgb;
  float light = 1.0;
  if (isShaded) {
    vec3 normal = normalize(cross(dFdx(inView), dFdy(inView)));
    float facing = abs(dot(normal, normalize(inView)));
    float above = 0.5 + 0.5 * abs(normal.y);
    light = 0.22 + 0.58 * facing + 0.25 * above * facing;
  }
  result = vec4(base * light, colour.a);
}`;

export class Renderer {
  // Throws where there is no WebGL 2.
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (!gl) throw new Error("no WebGL 2");
    this.gl = gl;
    this.program = this.link();
    this.at = {};
    for (const name of ["clipFromView", "viewFromModel", "pointSize", "colour", "isShaded",
      "isTextured", "picture"]) {
      this.at[name] = gl.getUniformLocation(this.program, name);
    }
    this.texture = gl.createTexture();
    this.hasTexture = false;
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  }

  link() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "position");
    gl.bindAttribLocation(program, 1, "texel");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error(gl.getProgramInfoLog(program));
    }
    return program;
  }

  // kind: triangles, lines or points; points: Float32Array of x, y, z; texels: of u, v.
  shape(kind, points, texels = null) {
    const gl = this.gl;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = [this.attribute(0, points, 3)];
    if (texels) buffers.push(this.attribute(1, texels, 2));
    gl.bindVertexArray(null);
    return { kind, array, buffers, count: points.length / 3 };
  }

  attribute(index, values, size) {
    const gl = this.gl;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, size, gl.FLOAT, false, 0, 0);
    return buffer;
  }

  free(shape) {
    for (const buffer of shape.buffers) this.gl.deleteBuffer(buffer);
    this.gl.deleteVertexArray(shape.array);
  }

  setPicture(canvas) {
    const gl = this.gl;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, canvas);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.hasTexture = true;
  }

  begin(width, height, clipFromView) {
    const gl = this.gl;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0.055, 0.07, 0.09, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(this.program);
    gl.uniformMatrix4fv(this.at.clipFromView, true, clipFromView);
    gl.uniform1i(this.at.picture, 0);
  }

  // Matrices are row by row. Transparent things come last.
  draw(shape, viewFromModel, rgba, { isShaded = false, isTextured = false } = {}) {
    const gl = this.gl;
    const modes = { triangles: gl.TRIANGLES, lines: gl.LINES, points: gl.POINTS };
    const isTransparent = rgba[3] < 0.999;
    gl.bindVertexArray(shape.array);
    gl.uniformMatrix4fv(this.at.viewFromModel, true, viewFromModel);
    gl.uniform4fv(this.at.colour, rgba);
    gl.uniform1f(this.at.pointSize, 5 * (window.devicePixelRatio || 1));
    gl.uniform1i(this.at.isShaded, isShaded);
    gl.uniform1i(this.at.isTextured, isTextured);
    (isTransparent ? gl.enable : gl.disable).call(gl, gl.BLEND);
    gl.depthMask(!isTransparent);
    gl.drawArrays(modes[shape.kind], 0, shape.count);
    gl.depthMask(true);
  }
}
