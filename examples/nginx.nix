# The smallest module that both microvm.nix on a NixOS host and the Debian runner accept. On NixOS add
# `services.nginx.enable = true;` here; the Debian runner has no NixOS services and says so.
{ lib, ... }:
{
  microvm = {
    hypervisor = "qemu";
    vcpu = 1;
    mem = lib.mkDefault 128;
  };
  networking.hostName = "nginx";
}
