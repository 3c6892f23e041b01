// Finds the host's interfaces in `host/`, by their names without package and version, and the handler's file
// in the query of the module that asks for it. The query goes on from module to module, so that each handler
// has an engine and a host of its own.

const INTERFACE = /^sluicegate:(?:policy|javascript)\/([a-z]+)@0\.1\.0$/;

export async function resolve(specifier, context, next) {
  const { search, searchParams } = new URL(context.parentURL ?? "file:///");
  const name = INTERFACE.exec(specifier)?.[1];
  if (name !== undefined) return next(new URL(`./host/${name}.js${search}`, import.meta.url).href, context);
  if (specifier === "./policy.js") {
    return next(`data:text/javascript,${encodeURIComponent(searchParams.get("policy"))}`, context);
  }
  return next(specifier.startsWith("./") ? specifier + search : specifier, context);
}
