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
  matches = pattern: v: isString v && match pattern v != null;
  # A path that no shell and no QEMU option reads as anything else, and that leads nowhere by "..".
  part = "[A-Za-z0-9_-][A-Za-z0-9._-]*";
  id = matches "[A-Za-z0-9][A-Za-z0-9_-]{0,14}";
  modes = [ "bridge" "passthru" "private" "source" "vepa" ];
  places = [ "/" "/bin" "/dev" "/etc" "/proc" "/sys" "/modules" "/tmp" "/init" ];

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
    "microvm.volumes" = {
      default = [ ];
      ok = v: isList v && builtins.length v <= 8;
      want = "a list of at most 8 volumes";
      items = {
        image = {
          ok = matches "(${part}/)*${part}";
          want = "a path of A-Z, a-z, 0-9, ., _ and - relative to the VM's directory";
        };
        mountPoint = {
          default = null;
          ok = v: v == null || (matches "(/${part})+" v && !elem v places);
          want = "null, or an absolute path of the guest that nothing is mounted on yet";
        };
        size = { ok = positive 16777216; want = "a number of MiB, 1 to 16777216"; };
        fsType = {
          default = "ext4";
          ok = v: elem v [ "ext2" "ext3" "ext4" ];
          want = "\"ext2\", \"ext3\" or \"ext4\": Debian's cloud kernel has these without more modules";
        };
        autoCreate = { default = true; ok = builtins.isBool; want = "true or false"; };
        label = {
          default = null;
          ok = v: v == null || matches "[A-Za-z0-9._-]{1,16}" v;
          want = "null, or 1 to 16 of A-Z, a-z, 0-9, ., _ and -";
        };
        readOnly = { default = false; ok = builtins.isBool; want = "true or false"; };
      };
    };
    "microvm.interfaces" = {
      default = [ ];
      ok = v: isList v && builtins.length v <= 4;
      want = "a list of at most 4 interfaces";
      items = {
        type = {
          ok = v: elem v [ "user" "tap" "macvtap" ];
          want = "\"user\", \"tap\" or \"macvtap\": the Debian runner has no other";
        };
        macvtap = {
          default = null;
          ok = v: v == null || (isAttrs v && attrNames v == [ "link" "mode" ] && id v.link && elem v.mode modes);
          want = "{ link = the host's interface that it lies on; mode = one of ${concatStringsSep ", " modes}; }";
        };
        id = {
          ok = id;
          want = "1 to 15 of A-Z, a-z, 0-9, _ and -, which is what Linux takes as an interface's name";
        };
        mac = {
          ok = matches "[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}";
          want = "six pairs of hexadecimal digits, the first of them even: \"02:00:00:00:00:01\"";
        };
      };
    };
    "microvm.shares" = {
      default = [ ];
      ok = v: isList v && builtins.length v <= 8;
      want = "a list of at most 8 shares";
      items = {
        proto = {
          default = "9p"; # as microvm.nix has it
          ok = v: v == "virtiofs";
          want = "\"virtiofs\": the Debian runner's kernel has no 9p";
        };
        tag = {
          ok = matches "[A-Za-z0-9_-][A-Za-z0-9._-]{0,35}";
          want = "1 to 36 of A-Z, a-z, 0-9, ., _ and -";
        };
        source = {
          ok = matches "(/|(/?${part}/)*${part}|(/${part})+)";
          want = "a path of the host, or one relative to the VM's directory, of A-Z, a-z, 0-9, ., _ and -";
        };
        mountPoint = {
          ok = v: matches "(/${part})+" v && !elem v places;
          want = "an absolute path of the guest that nothing is mounted on yet";
        };
        socket = {
          default = null; # HOST-virtiofs-TAG.sock
          ok = v: v == null || matches part v;
          want = "null, or a name of A-Z, a-z, 0-9, ., _ and -";
        };
      };
    };
    "microvm.qemu.extraArgs" = { default = [ ]; ok = strings; want = "a list of strings"; };
    "networking.hostName" = {
      default = "microvm";
      ok = matches "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
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
    if !(o.ok value) then fail "${path} must be ${o.want}"
    else if o ? items then builtins.genList (n: item "${path}[${toString n}]" o.items (builtins.elemAt value n))
      (builtins.length value)
    else value;

  # An entry of a list, with what it leaves out.
  item = path: fields: value:
    let
      unknown = filter (name: !(fields ? ${name})) (attrNames value);
      field = name: f:
        if !(value ? ${name} || f ? default) then fail "${path}.${name} is missing: it must be ${f.want}"
        else let v = value.${name} or f.default; in
          if f.ok v then v else fail "${path}.${name} must be ${f.want}";
      whole = builtins.mapAttrs field fields;
    in
    if !isAttrs value then fail "${path} must be an attribute set"
    else if unknown != [ ] then
      fail ("the option ${path}.${head unknown} is not supported; supported are "
        + concatStringsSep ", " (attrNames fields))
    else builtins.deepSeq whole whole; # also what nothing below reads

  forced = name: path: let v = overrides.${name} or null; in
    if v == null then option path
    else if options.${path}.ok v then v
    else fail "${toString v} was asked for as ${path}, which must be ${options.${path}.want}";

  hostName = option "networking.hostName";
  hypervisor = option "microvm.hypervisor";
  vcpu = forced "vcpu" "microvm.vcpu";
  mem = forced "mem" "microvm.mem";
  extraArgs = option "microvm.qemu.extraArgs";
  volumes = option "microvm.volumes";
  interfaces = option "microvm.interfaces";
  shares = map (s: s // { socket = if s.socket == null then "${hostName}-virtiofs-${s.tag}.sock" else s.socket; })
    (distinct "microvm.shares" [ "tag" "mountPoint" ] (option "microvm.shares"));

  # Two of a kind by the same name would be one.
  unique = path: name: list:
    let
      names = map (x: x.${name}) (filter (x: x.${name} != null) list);
      twice = filter (n: builtins.length (filter (m: m == n) names) > 1) names;
    in
    if twice == [ ] then list else fail "${path}: ${name} \"${head twice}\" is given twice";
  distinct = path: names: list: foldl' (l: name: unique path name l) list names;

  # A line for each, for the builder: no field holds a space.
  word = v: if v == null then "-" else if v == true then "1" else if v == false then "0" else toString v;
  table = fields: list: concatStringsSep "" (map (x: concatStringsSep " " (map (f: word x.${f}) fields) + "\n") list);

  # One argument of a shell command line, whatever it holds.
  quote = s: "'" + builtins.replaceStrings [ "'" ] [ "'\\''" ] s + "'";

  oneUser = list: unique "microvm.interfaces" "type" (filter (x: x.type == "user") list);

  # What only one type has, next to it.
  withLink = i:
    if i.type == "macvtap" && i.macvtap == null then
      fail "microvm.interfaces: ${i.id} is a macvtap, so it needs macvtap = { link; mode; }"
    else if i.type != "macvtap" && i.macvtap != null then
      fail "microvm.interfaces: ${i.id} has type \"${i.type}\", so it takes no macvtap = { link; mode; }"
    else i // { link = i.macvtap.link or null; mode = i.macvtap.mode or null; };

  noVolume = share:
    if elem share.mountPoint (map (v: v.mountPoint) volumes) then
      fail "mountPoint \"${share.mountPoint}\" is given to a volume and to a share"
    else share;

  declaredRunner = builtins.seq (oneUser interfaces) (derivation {
    name = "microvm-${hypervisor}-${hostName}";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ ./build.sh ];
    init = ./init.sh;
    modules_list = ./modules.list;
    inherit hostName hypervisor vcpu mem;
    extraArgs = concatStringsSep " " (map quote extraArgs);
    volumes = table [ "image" "mountPoint" "size" "fsType" "autoCreate" "label" "readOnly" ]
      (distinct "microvm.volumes" [ "image" "mountPoint" ] volumes);
    interfaces = table [ "type" "id" "mac" "link" "mode" ]
      (map withLink (distinct "microvm.interfaces" [ "id" "mac" ] interfaces));
    shares = table [ "tag" "socket" "source" "mountPoint" ]
      (map noVolume (distinct "microvm.shares" [ "socket" ] shares));
    accel = host.accel;
    inherit (host) kernel kernelHash modules kernelVersion modulesHash;
    inherit (host) busybox busyboxHash guest guestHash qemu qemuHash;
  });
in
{
  config = {
    networking = { inherit hostName; };
    microvm = { inherit hypervisor vcpu mem volumes interfaces shares declaredRunner; };
  };
}
