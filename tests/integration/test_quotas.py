"""Scale, taints, quotas and placement's settings, by their calls."""

import grpc

import stock


def stub_of(cluster, messages):
    return stock.Stub(messages, cluster.nodes[0].socket)


def vm(messages, name, tenant, replicas=1):
    spec = messages.VmSpec(name=name, flake="path:/x#vm", vcpus=1, memory_mib=64, replicas=replicas)
    return messages.VmCreateRequest(spec=spec, tenant=tenant)


def test_a_quota_stops_what_is_above_it_and_says_so(shared, messages):
    with stub_of(shared, messages) as stub:
        quota = messages.Quota(tenant="default", instances=3)
        set_ = stub.QuotaSet(messages.QuotaSetRequest(quota=quota))
        assert set_.instances == 3 and set_.revision > 0 and set_.used_instances == 0
        stub.VmCreate(vm(messages, "web", "default", 2))
        code, text, _ = stock.refused(stub.VmScale, messages.VmScaleRequest(name="web", tenant="default", replicas=4))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "tenant default has 2 of 3 instances and web needs 2 more" in text
        scaled = stub.VmScale(messages.VmScaleRequest(name="web", tenant="default", replicas=3))
        assert scaled.spec.replicas == 3 and len(scaled.instances) == 3
        one = stub.QuotaGet(messages.QuotaGetRequest(tenant="default")).quotas[0]
        assert (one.used_vms, one.used_instances, one.used.memory_mib) == (1, 3, 192)
        names = [q.tenant for q in stub.QuotaGet(messages.QuotaGetRequest()).quotas]
        assert "default" in names and names == sorted(names)
        gone = stub.QuotaSet(messages.QuotaSetRequest(quota=messages.Quota(tenant="default"), remove=True))
        assert gone.revision == 0 and gone.used_instances == 3
        stub.VmDelete(messages.VmNameRequest(name="web", tenant="default"))


def test_a_taint_is_set_and_taken_away(shared, messages):
    name = shared.nodes[1].name
    with stub_of(shared, messages) as stub:
        taint = messages.Taint(key="gpu", value="a100")
        node = stub.NodeTaint(messages.NodeTaintRequest(name=name, set=[taint]))
        assert [(t.key, t.value) for t in node.taints] == [("gpu", "a100")]
        node = stub.NodeTaint(messages.NodeTaintRequest(name=name, unset=[messages.Taint(key="gpu")]))
        assert not node.taints


def test_settings_of_placement_are_set_as_a_whole(shared, messages):
    with stub_of(shared, messages) as stub:
        more = messages.PlacementSettings(survive_nodes=0, overcommit=[messages.Overcommit(cpu_percent=200)])
        request = messages.SettingsSetRequest(change=messages.SettingsChange(placement=more))
        got = stub.SettingsSet(request).settings.placement
        assert got.overcommit[0].cpu_percent == 200 and got.overcommit[0].memory_percent == 100
        bad = messages.PlacementSettings(overcommit=[messages.Overcommit(), messages.Overcommit()])
        code, text, _ = stock.refused(
            stub.SettingsSet, messages.SettingsSetRequest(change=messages.SettingsChange(placement=bad))
        )
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "overcommit" in text
