# As much of nixpkgs as nix/vm-template and nix/guest.nix need: options and definitions with priorities and conditions,
# evaluated as the real module system does it, and a runCommand.
{
  outputs = { self }:
    let
      inherit (builtins) attrNames concatLists concatMap elem filter foldl' head isAttrs isFunction isPath listToAttrs
        tail;

      isA = type: v: isAttrs v && (v._type or "") == type;
      mkOverride = priority: content: { _type = "override"; inherit priority content; };
      mkOption = o: o // { _type = "option"; };
      lib = {
        inherit elem mkOption mkOverride;
        mkIf = condition: content: { _type = "if"; inherit condition content; };
        mkForce = mkOverride 50;
        mkDefault = mkOverride 1000;
        mkEnableOption = what: mkOption { default = false; type = types.plain; description = what; };
        inherit types;
        nixosSystem = system;
      };
      types = {
        plain = { merge = path: values: if tail values == [ ] then head values else throw "${path} is given twice"; };
        package = types.plain;
        listOf = { merge = _: concatLists; };
        attrsOf = { merge = _: foldl' (a: b: a // b) { }; };
      };

      pkgs.runCommand = name: environment: script: derivation (environment // {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" ("PATH=/usr/bin:/bin\n" + script) ];
      });

      base = {
        options.networking.hostName = mkOption { type = types.plain; default = "nixos"; };
        options.systemd.services = mkOption { type = types.attrsOf; default = { }; };
        options.systemd.package = mkOption { type = types.plain; default = "/systemd"; };
      };

      system = { system, modules }:
        let
          load = m: if isPath m then load (import m) else if isFunction m then m { inherit config lib pkgs; } else m;
          loaded = map load ([ base ] ++ modules);
          none = { config = { }; options = { }; };
          long = m: none // (if m ? config || m ? options then m else { config = m; });
          whole = map long loaded;

          # [{ path; option; }], and for each of them [{ on; priority; value; }], whose structure depends on no value.
          optionsOf = path: set: concatMap (name:
            let v = set.${name}; here = path ++ [ name ]; in
            if isA "option" v then [{ path = here; option = v; }] else optionsOf here v) (attrNames set);
          declared = concatMap (m: optionsOf [ ] m.options) whole;
          key = builtins.concatStringsSep ".";
          known = listToAttrs (map (d: { name = key d.path; value = true; }) declared);
          definitions = path: on: v:
            if isA "if" v then definitions path (on ++ [ v.condition ]) v.content
            else if known ? ${key path} then [{ name = key path; inherit on v; }]
            else if isAttrs v then concatMap (n: definitions (path ++ [ n ]) on v.${n}) (attrNames v)
            else throw "the option `${key path}' does not exist";
          given = concatMap (m: definitions [ ] [ ] m.config) whole;

          strip = v: if isA "override" v then v else { priority = 100; content = v; };
          value = d:
            let
              mine = map (g: strip g.v) (filter (g: g.name == key d.path && builtins.all (x: x) g.on) given);
              all = mine ++ (if d.option ? default then [{ priority = 1500; content = d.option.default; }] else [ ]);
              least = foldl' (a: b: if b.priority < a then b.priority else a) 9999 all;
            in
            if all == [ ] then throw "the option `${key d.path}' is used but not defined"
            else d.option.type.merge (key d.path) (map (x: x.content) (filter (x: x.priority == least) all));
          set = path: v: if path == [ ] then v else { ${head path} = set (tail path) v; };
          merge = a: b: a // builtins.mapAttrs (n: v: if a ? ${n} && !(leaf a.${n}) then merge a.${n} v else v) b;
          leaf = v: v ? __leaf;
          tree = foldl' merge { } (map (d: set d.path { __leaf = value d; }) declared);
          open = builtins.mapAttrs (_: v: if leaf v then v.__leaf else open v);
          config = open tree;
        in
        { inherit config; };
    in
    { inherit lib; };
}
