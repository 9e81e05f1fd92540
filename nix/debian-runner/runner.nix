# A microvm.nix runner without NixOS: Debian's QEMU and cloud kernel, busybox, blixard-guest. It reads the same module
# file that microvm.nix reads, and knows of its options only those below; any other is an error that names it.
#
#   module     path of the module file
#   host       attrset of host.json: paths of the host's files and their SHA-256, which the derivation carries, so that
#              an upgrade of a package gives another runner
#   overrides  { vcpu ? null; mem ? null; }  what the cluster accounts for wins over the file
{ module, host, overrides ? { } }:
let
  inherit (builtins) attrNames concatMap concatStringsSep elem filter foldl' head isAttrs isFunction isInt isList
    isString match tail toString;

  fail = text: throw "debian-runner: ${text}";

  identity = x: x;
  # The few helpers that a small module may use; the rest of nixpkgs is not here.
  lib = {
    mkForce = identity;
    mkDefault = identity;
    mkForceIf = c: x: if c then x else { };
  };
  absent = what: fail "the module uses ${what}, which only a NixOS host with microvm.nix has; see examples/hello.nix";
  args = { inherit lib; pkgs = absent "pkgs"; config = absent "config"; modulesPath = absent "modulesPath"; };

  loaded = import module;
  body = if isFunction loaded then loaded args else loaded;

  positive = max: v: isInt v && v >= 1 && v <= max;
  strings = v: isList v && builtins.all isString v;
  options = {
    "microvm.hypervisor" = {
      default = "qemu";
      ok = v: v == "qemu";
      want = "\"qemu\": the Debian runner has no other";
    };
    "microvm.vcpu" = { default = 1; ok = positive 64; want = "a whole number, 1 to 64"; };
    "microvm.mem" = {
      default = 512;
      ok = v: positive 1048576 v && v >= 64 && v != 2048;
      want = "a number of MiB, 64 to 1048576, and not 2048, with which a QEMU guest hangs (microvm.nix issue 171)";
    };
    "microvm.qemu.extraArgs" = { default = [ ]; ok = strings; want = "a list of strings"; };
    "networking.hostName" = {
      default = "microvm";
      ok = v: isString v && match "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" v != null;
      want = "a name of a-z, 0-9 and -, at most 63 characters";
    };
  };
  # Inner nodes of the option tree, into which a module's attribute sets are followed.
  groups = [ "microvm" "microvm.qemu" "networking" ];

  flatten = prefix: set: concatMap (name:
    let
      path = if prefix == "" then name else "${prefix}.${name}";
      value = set.${name};
    in
    if elem path groups then
      (if isAttrs value then flatten path value else fail "${path} must be an attribute set")
    else if options ? ${path} then [{ inherit path value; }]
    else fail "the option ${path} is not supported; supported are ${concatStringsSep ", " (attrNames options)}"
  ) (attrNames set);

  given =
    if isAttrs body then builtins.listToAttrs (map (o: { name = o.path; value = o.value; }) (flatten "" body))
    else fail "the module must be an attribute set, or a function that gives one";
  option = path:
    let
      o = options.${path};
      value = given.${path} or o.default;
    in
    if o.ok value then value else fail "${path} must be ${o.want}";

  forced = name: path: let v = overrides.${name} or null; in
    if v == null then option path
    else if options.${path}.ok v then v
    else fail "${toString v} was asked for as ${path}, which must be ${options.${path}.want}";

  hostName = option "networking.hostName";
  hypervisor = option "microvm.hypervisor";
  vcpu = forced "vcpu" "microvm.vcpu";
  mem = forced "mem" "microvm.mem";
  extraArgs = option "microvm.qemu.extraArgs";

  # One argument of a shell command line, whatever it holds.
  quote = s: "'" + builtins.replaceStrings [ "'" ] [ "'\\''" ] s + "'";

  declaredRunner = derivation {
    name = "microvm-${hypervisor}-${hostName}";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ ./build.sh ];
    init = ./init.sh;
    modules_list = ./modules.list;
    inherit hostName hypervisor vcpu mem;
    extraArgs = concatStringsSep " " (map quote extraArgs);
    accel = host.accel;
    inherit (host) kernel kernelHash modules kernelVersion modulesHash;
    inherit (host) busybox busyboxHash guest guestHash qemu qemuHash;
  };
in
{
  config = {
    networking = { inherit hostName; };
    microvm = { inherit hypervisor vcpu mem declaredRunner; };
  };
}
