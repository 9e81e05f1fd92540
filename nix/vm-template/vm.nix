# What a wrapped module is evaluated with: the agent, and what the cluster accounts for, which wins over the file.
{ vcpu, mem, guest }:
{ lib, pkgs, ... }:
{
  microvm = {
    vcpu = lib.mkIf (vcpu != null) (lib.mkForce vcpu);
    mem = lib.mkIf (mem != null) (lib.mkForce mem);
  };
  networking.hostName = lib.mkDefault "microvm";
  services.blixard-guest = {
    enable = lib.mkDefault true;
    # It is static: nothing has to be built.
    package = pkgs.runCommand "blixard-guest" { } ''
      mkdir -p $out/bin
      cp ${guest} $out/bin/blixard-guest
      chmod 0755 $out/bin/blixard-guest
    '';
  };
}
