// What is fetched once into the user's cache folder and used from there by every checkout. Needs setup() to have run.

const load = () => import('../dist/lib/vm/npm-package.js');

/** A folder of the cache that `fill(folder)` has filled: whole, or not there at all. */
export async function cached(name, progress, fill) {
  return (await load()).cached(name, { progress }, fill);
}

/** A folder whose node_modules has packages of the npm registry, with their dependencies: 'name@version', or several of them. */
export async function npmPackage(what, progress) {
  return (await load()).npmPackage(what, { progress });
}

/** The binary of a major version of Node, which the npm registry carries for linux-x64 and others. */
export async function nodeBinary(major, progress, arch = 'x64') {
  return (await load()).nodeBinary(major, { progress }, arch);
}
