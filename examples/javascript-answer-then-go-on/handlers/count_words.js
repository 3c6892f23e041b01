// Answers at once, and reads along: the workload waits for nothing that is done here.
export default {
  async outbound(request, env, ctx) {
    // It is read as it comes: not compressed, please.
    request.headers.delete("accept-encoding");
    const response = await fetch(request);
    ctx.waitUntil(count(response.clone(), env, ctx));
    return response;
  },
};

async function count(copy, env, ctx) {
  let words = 0;
  let isInWord = false;
  if (copy.body !== null) {
    for await (const text of copy.body.pipeThrough(new TextDecoderStream())) {
      const pieces = text.split(/\s+/);
      words += pieces.filter(Boolean).length - (isInWord && pieces[0] !== "" ? 1 : 0);
      isInWord = pieces.at(-1) !== "";
    }
  }
  const total = await env.kv.increment(`words/${ctx.containerId}`, words);
  console.log("counted", { words, total });
}
