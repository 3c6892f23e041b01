// The host's interface `kv`.

export const values = new Map();

export default {
  get: (binding, key) => values.get(`${binding}/${key}`) ?? null,
  put: (binding, key, value) => void values.set(`${binding}/${key}`, value),
  delete: (binding, key) => void values.delete(`${binding}/${key}`),
  listKeys: (binding, prefix) =>
    [...values.keys()]
      .filter((key) => key.startsWith(`${binding}/${prefix}`))
      .map((key) => key.slice(binding.length + 1)),
  increment: (binding, key, by) => by,
};
