# As much of microvm.nix as a runner's layout and its QEMU options are. What it runs is no monitor.
{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable"; # followed, never fetched
  outputs = { self, nixpkgs }: {
    nixosModules.microvm = { config, lib, pkgs, ... }:
      let
        inherit (lib) mkOption types;
        cfg = config.microvm;
        host = config.networking.hostName;
        arguments = builtins.concatStringsSep " " cfg.qemu.extraArgs;
      in
      {
        options.microvm = {
          hypervisor = mkOption { type = types.plain; default = "qemu"; };
          vcpu = mkOption { type = types.plain; default = 1; };
          mem = mkOption { type = types.plain; default = 512; };
          qemu.machine = mkOption { type = types.plain; default = "microvm"; };
          qemu.extraArgs = mkOption { type = types.listOf; default = [ ]; };
          declaredRunner = mkOption { type = types.plain; };
        };
        config.microvm.declaredRunner = pkgs.runCommand "microvm-${cfg.hypervisor}-${host}" { } ''
          mkdir -p $out/bin $out/share/microvm
          printf '%s' x86_64-linux >$out/share/microvm/system
          printf '%s' ${cfg.hypervisor} >$out/share/microvm/hypervisor
          : >$out/share/microvm/tap-interfaces
          cat >$out/bin/microvm-run <<EOF
          #!/bin/sh
          exec sleep 600 # -m ${toString cfg.mem} -smp ${toString cfg.vcpu} ${arguments}
          EOF
          chmod 0755 $out/bin/microvm-run
        '';
      };
  };
}
