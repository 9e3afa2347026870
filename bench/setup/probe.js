// Runs before the page's own scripts and takes the times that the page cannot: when a call begins,
// and when its first echoed frame comes out of SRTP, before jitter buffer and decoder.
const worker = new Worker(
  URL.createObjectURL(
    new Blob([
      `onrtctransform = async ({ transformer: { readable, writable } }) => {
        const reader = readable.getReader();
        const writer = writable.getWriter();
        const { value } = await reader.read();
        postMessage(performance.timeOrigin + performance.now());
        await writer.write(value);
        reader.releaseLock();
        writer.releaseLock();
        readable.pipeTo(writable);
      };`,
    ]),
  ),
);
window.probe = { start: 0, firstFrame: 0 };
worker.onmessage = ({ data }) => {
  probe.firstFrame = data;
};
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(configuration) {
    super(configuration);
    probe.start = performance.timeOrigin + performance.now();
  }
  // Chromium 156 ignores a transform that is set as late as in a track event.
  addTransceiver(...parameters) {
    const transceiver = super.addTransceiver(...parameters);
    transceiver.receiver.transform = new RTCRtpScriptTransform(worker);
    return transceiver;
  }
};
