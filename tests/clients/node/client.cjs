// A client in another language, with nothing of ours but the contract: it imports a clip, submits a run and follows its
// metrics to the end. Messages and methods come from the server's own reflection.
//
// usage: node client.cjs HOST:PORT CLIP BASE_MODEL        prints one JSON object with what it saw
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { descriptorsOf } = require('./reflection.cjs');

const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };

async function main([address, clip, baseModel]) {
  const descriptors = await descriptorsOf(address, 'tunesmith.v1');
  const { v1 } = grpc.loadPackageDefinition(protoLoader.loadFileDescriptorSetFromObject(descriptors, OPTIONS)).tunesmith;
  const connect = (name) => new v1[name](address, grpc.credentials.createInsecure());
  const call = (name, method, request) =>
    new Promise((resolve, reject) =>
      connect(name)[method](request, (error, answer) => (error ? reject(error) : resolve(answer))));

  const digest = await upload(connect('BlobService'), fs.readFileSync(clip));
  const name = `node-${process.pid}`;
  const { dataset } = await call('DatasetService', 'CreateDataset', { dataset: { name } });
  await call('DatasetService', 'AddSamples', {
    dataset_id: dataset.dataset_id,
    samples: ['a falling tone', 'a tone that falls', 'one voice, falling'].map((prompt, i) => (
      { prompt, audio_digest: digest, rating: 3 + i })),
  });
  const { experiment } = await call('ExperimentService', 'CreateExperiment', {
    experiment: { name, dataset_id: dataset.dataset_id },
  });
  const { run } = await call('RunService', 'CreateRun', {
    experiment_id: experiment.experiment_id,
    min_rating: 4,
    spec: {
      supervised: {
        adapter: { base_model: baseModel, lora_r: 4 },
        training: { epochs: 3, batch_size: 1, log_every_steps: 1 },
        validation: { validation_fraction: 0 },
      },
    },
  });
  const seen = await follow(connect('TelemetryService'), run.run_id);
  const ended = (await call('RunService', 'GetRun', { run_id: run.run_id })).run;
  const refused = await call('RunService', 'CancelRun', { run_id: run.run_id }).catch((error) => error);
  return { ...seen, state: ended.state, adapter_id: ended.adapter_id, refused: refused.code };
}

// Sends a file in messages of at most 1 MiB; answers its digest.
function upload(blobs, bytes) {
  const digest = crypto.createHash('sha256').update(bytes).digest('hex');
  return new Promise((resolve, reject) => {
    const stream = blobs.UploadBlob((error, answer) => (error ? reject(error) : resolve(answer.digest)));
    for (let offset = 0; offset < bytes.length; offset += 1 << 20) {
      stream.write({ digest, size_bytes: bytes.length, offset, data: bytes.subarray(offset, offset + (1 << 20)) });
    }
    stream.end();
  });
}

// Follows the metrics of a run until the server ends the stream.
function follow(telemetry, runId) {
  const seen = { losses: [], steps: [], tokens: 0 };
  return new Promise((resolve, reject) => {
    const stream = telemetry.WatchMetrics({ run_id: runId });
    stream.on('data', ({ rows, resume_token: token }) => {
      seen.tokens += token ? 1 : 0;
      for (const batch of rows ? rows.batches : []) {
        const column = batch.names.indexOf('loss');
        if (column < 0) continue;
        batch.steps.forEach((step, row) => {
          seen.steps.push(step);
          seen.losses.push(batch.values[row * batch.names.length + column]);
        });
      }
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(seen));
  });
}

main(process.argv.slice(2)).then(
  (seen) => { console.log(JSON.stringify(seen)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
