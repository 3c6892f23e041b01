// The host's interface `secrets`.

export default {
  placeholder: (name) => `sluicegate_secret_00ff_${name}_`,
  hmacSha256: (name, data) => new Uint8Array([...name].map((letter) => letter.charCodeAt(0)).concat(...data)),
};
