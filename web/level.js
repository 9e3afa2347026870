/** Level meters for audio streams. */

/** What counts as silence, the lower end of the meter. */
const QUIETEST_DBFS = -60;

/** How much of the level remains after one frame of silence, so that it falls softly. */
const DECAY = 0.88;

/**
 * Show a stream's loudness until the context is closed.
 *
 * @param {AudioContext} context
 * @param {MediaStream} stream
 * @param {HTMLElement} meter gets `--level` (0..1) and aria-valuenow (0..100)
 */
export function watchLevel(context, stream, meter) {
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  let level = 0;

  function update() {
    if (context.state === "closed") level = 0;
    else {
      analyser.getFloatTimeDomainData(samples);
      level = Math.max(loudness(samples), level * DECAY);
      requestAnimationFrame(update);
    }
    meter.style.setProperty("--level", level.toFixed(3));
    meter.setAttribute("aria-valuenow", (level * 100).toFixed(0));
  }
  update();
}

/**
 * The RMS of the samples on a scale from 0 (silent) to 1 (full scale).
 *
 * @param {Float32Array} samples
 */
function loudness(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.max(0, 1 - (10 * Math.log10(power)) / QUIETEST_DBFS);
}
