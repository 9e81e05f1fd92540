# NixOS module: blixard-guest as a service of a microvm.nix guest. It says over a virtio-serial port that the system is
# up, and shuts it down when the host asks.
{ config, lib, ... }:
let
  cfg = config.services.blixard-guest;
  # QEMU's small machines have a bus of memory-mapped virtio devices, the others PCI.
  machine = config.microvm.qemu.machine or "microvm";
  serial = if lib.elem machine [ "microvm" "virt" ] then "virtio-serial-device" else "virtio-serial-pci";
in
{
  options.services.blixard-guest = {
    enable = lib.mkEnableOption "the agent of a Blixard guest";
    package = lib.mkOption {
      type = lib.types.package;
      description = "What holds bin/blixard-guest.";
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.services.blixard-guest = {
      description = "Tells the Blixard node that this guest is up";
      wantedBy = [ "multi-user.target" ];
      after = [ "multi-user.target" ];
      # It runs poweroff.
      path = [ config.systemd.package ];
      serviceConfig = {
        ExecStart = "${cfg.package}/bin/blixard-guest --name-host";
        Restart = "always";
        RestartSec = 1;
      };
    };

    # The agent's port, and a second QMP socket: one serves a single client, and the first is the runner's own. Both lie
    # in the monitor's working directory, where the node looks for them.
    microvm.qemu.extraArgs = lib.mkIf (config.microvm.hypervisor == "qemu") [
      "-qmp"
      "unix:blixard-qmp.sock,server=on,wait=off"
      "-device"
      serial
      "-chardev"
      "socket,id=blixard-guest,path=blixard-guest.sock,server=on,wait=off"
      "-device"
      "virtserialport,chardev=blixard-guest,name=org.blixard.guest.0"
    ];
  };
}
