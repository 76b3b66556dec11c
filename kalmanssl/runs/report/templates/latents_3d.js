// Points in three dimensions that rotate with the pointer and the arrow keys, in each figure of class "latents-3d".
"use strict";
for (const figure of document.querySelectorAll(".latents-3d")) {
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const data = JSON.parse(figure.querySelector("script").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const points = new Int16Array(bytes(data.points).buffer), colors = bytes(data.colors);
  const count = colors.length, order = Array.from({ length: count }, (_, i) => i);
  const sizes = [new Float32Array(count), new Float32Array(count), new Float32Array(count)];
  const first = { yaw: 0.6, pitch: 0.35 };
  let { yaw, pitch } = first, grabbed = null, waiting = false;

  const color = (name) => getComputedStyle(figure).getPropertyValue(name);
  const project = (x, y, z) => {
    const right = x * Math.cos(yaw) + z * Math.sin(yaw), away = z * Math.cos(yaw) - x * Math.sin(yaw);
    return [right, y * Math.cos(pitch) - away * Math.sin(pitch), away * Math.cos(pitch) + y * Math.sin(pitch)];
  };
  const draw = () => {
    waiting = false;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, width / 2 * ratio, height / 2 * ratio);
    const scale = 0.46 * Math.min(width, height), ink = color("--ink"), back = color("--panel");
    for (let i = 0; i < count; i++) {
      const at = project(points[3 * i] / 32767, points[3 * i + 1] / 32767, points[3 * i + 2] / 32767);
      for (let side = 0; side < 3; side++) sizes[side][i] = at[side];
    }
    order.sort((a, b) => sizes[2][b] - sizes[2][a]);
    for (const i of order) {
      const near = 0.5 - sizes[2][i] / 2, size = 2 + 2.5 * near;
      pen.globalAlpha = 0.6 + 0.4 * near;
      pen.fillStyle = data.palette[colors[i]];
      pen.fillRect(scale * sizes[0][i] - size / 2, -scale * sizes[1][i] - size / 2, size, size);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = ink;
    pen.font = "13px system-ui, sans-serif";
    pen.textBaseline = "middle";
    data.labels.forEach((label, axis) => {
      const [x, y] = project(...[0, 1, 2].map((one) => (one === axis ? 1 : 0)));
      pen.beginPath();
      pen.moveTo(-scale * x, scale * y);
      pen.lineTo(scale * x, -scale * y);
      pen.strokeStyle = ink;
      pen.lineWidth = 0.7;
      pen.stroke();
      const half = pen.measureText(label).width / 2 + 4, top = -1.06 * scale * y;
      const left = Math.max(half - width / 2, Math.min(width / 2 - half, scale * x + Math.sign(x) * half));
      pen.textAlign = "center";
      pen.strokeStyle = back;
      pen.lineWidth = 4;
      pen.lineJoin = "round";
      pen.strokeText(label, left, top);
      pen.fillText(label, left, top);
    });
  };
  const redraw = () => {
    if (!waiting) window.requestAnimationFrame(draw);
    waiting = true;
  };
  const rotate = (right, up) => {
    yaw += right;
    pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, pitch + up));
    redraw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    grabbed = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grabbed) return;
    rotate((event.clientX - grabbed[0]) / 120, (event.clientY - grabbed[1]) / 120);
    grabbed = [event.clientX, event.clientY];
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (grabbed = null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (event.key === "Home") ({ yaw, pitch } = first);
    if (!step && event.key !== "Home") return;
    event.preventDefault();
    rotate(...(step || [0, 0]));
  });
  figure.hidden = false;
  new ResizeObserver(redraw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  redraw();
}
